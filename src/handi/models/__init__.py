"""The networks, and the folders that they live in."""
