"""Scripts and logs behind the figures that the docs quote."""
