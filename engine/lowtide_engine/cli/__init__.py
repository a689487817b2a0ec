"""The `lowtide` program: one file per command, restic's option names, a result document in every outcome."""

import gc
import os
import sys
from typing import NoReturn

SELDOM = 50_000
"""Between two looks for garbage, so many new objects: a start makes tens of thousands, and nearly all of them stay."""


def main() -> NoReturn:
    """Entry point of the `lowtide` program."""
    gc.set_threshold(SELDOM)
    from lowtide_engine.cli.process import run

    exit_code = run(sys.argv[1:])
    # All is stored, closed and flushed; to take the interpreter apart would be an eighth of a short command's time.
    os._exit(exit_code)
