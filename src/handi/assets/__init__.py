"""Files that ship with the package. example.png is rendered by this project's own synthetic world."""
