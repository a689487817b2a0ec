"""The options that say which files are left out, or taken, and the files that hold such patterns."""

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


def include_options(function: _F) -> _F:
    """--include, --iinclude, --include-file, --iinclude-file."""
    for option in (
        click.option("--iinclude-file", "iinclude_files", multiple=True, metavar="FILE",
                     help="Like --include-file, in any case."),
        click.option("--include-file", "include_files", multiple=True, metavar="FILE",
                     help="File with one pattern a line."),
        click.option("--iinclude", "iincludes", multiple=True, metavar="PATTERN", help="Like --include, in any case."),
        click.option("-i", "--include", "includes", multiple=True, metavar="PATTERN", help="Only what matches."),
    ):  # fmt: skip
        function = option(function)
    return function


def encoded_patterns(given: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, list[bytes]]:
    """What the options of both kinds say: raw patterns as includes, iincludes, excludes, iexcludes."""
    return {
        name: [
            os.fsencode(pattern)
            for pattern in gather_patterns(given[name], given[f"{name.removesuffix('s')}_files"], environment)
        ]
        for name in ("includes", "iincludes", "excludes", "iexcludes")
    }


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
