"""`python -m lowtide_engine.cli` is the `lowtide` program."""

from lowtide_engine.cli import main

main()
