"""The command line of `python -m tests.cluster`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tests import programs


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 where it did what it says."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    tools = commands.add_parser("tools", help="build the named programs (default: all) and print their paths")
    tools.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.names) - set(programs.PROGRAMS))
    if unknown:
        parser.error(f"no such program: {', '.join(unknown)}; there are {', '.join(programs.PROGRAMS)}")
    for name in arguments.names or programs.PROGRAMS:
        print(programs.program(name), flush=True)
    return 0
