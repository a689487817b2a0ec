"""The options that say which files are left out, and the files that hold such patterns."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from lowtide_engine.errors import BadInput

_F = TypeVar("_F", bound=Callable[..., Any])
_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|(\w+)|(\$))")


def exclude_options(function: _F) -> _F:
    """--exclude, --iexclude, --exclude-file, --iexclude-file."""
    for option in (
        click.option("--iexclude-file", "iexclude_files", multiple=True, metavar="FILE",
                     help="Like --exclude-file, ignoring upper and lower case."),
        click.option("--exclude-file", "exclude_files", multiple=True, metavar="FILE",
                     help="File with one pattern a line; # begins a comment."),
        click.option("--iexclude", "iexcludes", multiple=True, metavar="PATTERN",
                     help="Like --exclude, ignoring upper and lower case."),
        click.option("-e", "--exclude", "excludes", multiple=True, metavar="PATTERN",
                     help="Leave out what matches; can be given several times."),
    ):  # fmt: skip
        function = option(function)
    return function


def gather_patterns(given: Iterable[str], files: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """The patterns given, then those in the files. In a file, lines are trimmed, `#` starts a comment line, and
    `$NAME`, `${NAME}` are taken from the environment, `$$` is a dollar sign, as in restic. Raises BadInput.
    """
    patterns = list(given)
    for file in files:
        try:
            lines = Path(file).read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
        except OSError as error:
            raise BadInput(f"could not read patterns from {file}: {error.strerror}") from error
        for line in lines:
            text = os.fsdecode(line.strip())
            if text and not text.startswith("#"):
                patterns.append(_expand(text, environment))
    if any(not pattern for pattern in patterns):
        raise BadInput("a pattern is empty, which would match nothing or everything", hint="remove it")
    return patterns


def _expand(text: str, environment: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda m: "$" if m[3] else environment.get(m[1] or m[2], ""), text)
