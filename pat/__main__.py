"""`python -m pat` is the `pat` command."""

from pat.cli import main

main()
