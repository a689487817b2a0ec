"""The `lowtide` program: one file per command, restic's option names, a result document in every outcome."""

import sys


def main() -> None:
    """Entry point of the `lowtide` program."""
    from lowtide_engine.cli.process import run

    sys.exit(run(sys.argv[1:]))
