"""`handi generate`: requests in, folders of finished files out."""
