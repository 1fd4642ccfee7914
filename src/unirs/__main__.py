"""`python -m unirs`."""

from .cli import main

main()
