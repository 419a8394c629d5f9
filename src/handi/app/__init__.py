"""`handi app`: generation in a browser, by the same functions as `handi generate`."""
