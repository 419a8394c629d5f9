"""`python -m handi`."""

from handi.cli import main

main()
