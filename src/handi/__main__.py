"""`python -m handi`."""

from handi.commands.app import main

main()
