"""The options that name files and folders to back up by lists, and what the lists say."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from lowtide_engine.errors import BadInput

_F = TypeVar("_F", bound=Callable[..., Any])


LISTS = ("files_from", "files_from_verbatim", "files_from_raw")
"""The parameters of `target_options`."""


def target_options(function: _F) -> _F:
    """--files-from, --files-from-verbatim, --files-from-raw, as restic has them."""
    for option in (
        click.option("--files-from-raw", multiple=True, metavar="FILE",
                     help="Also back up what this file names, each name ended by a zero byte."),
        click.option("--files-from-verbatim", multiple=True, metavar="FILE",
                     help="Also back up what this file names, a line each, exactly as it is there."),
        click.option("--files-from", multiple=True, metavar="FILE",
                     help="Also back up what the patterns in this file match, a line each; # begins a comment."),
    ):  # fmt: skip
        function = option(function)
    return function


def gather_targets(
    given: Iterable[str],
    patterns: Iterable[str],
    verbatim: Iterable[str],
    raw: Iterable[str],
    warn: Callable[[str], None],
) -> list[bytes]:
    """All targets, each once, those of the lists first; a list called - is the standard input. BadInput where a list
    can't be read, holds an empty name, or nothing at all is named."""
    found: list[bytes] = []
    for file in patterns:
        for line in _lines(file):
            pattern = line.strip()
            if pattern and not pattern.startswith(b"#"):
                matches = _matches(pattern)
                if not matches:
                    warn(f"nothing matches {os.fsdecode(pattern)} of {file}, skipped")
                found += matches
    for file in verbatim:
        found += [line for line in _lines(file) if line]
    for file in raw:
        found += _raw_names(file)
    found += [os.fsencode(target) for target in given]
    if not found:
        raise BadInput("the lists name nothing that could be backed up")
    return list(dict.fromkeys(found))


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise BadInput(f"could not read the list {file}: {error.strerror}") from error


def _lines(file: str) -> list[bytes]:
    text = _read(file).removeprefix(b"\xef\xbb\xbf")
    return [line.removesuffix(b"\r") for line in text.split(b"\n")]


def _raw_names(file: str) -> list[bytes]:
    data = _read(file)
    if data and not data.endswith(b"\0"):
        raise BadInput(f"the last name in {file} has no zero byte behind it, so the list may be cut")
    names = data.split(b"\0")[:-1]
    if b"" in names:
        raise BadInput(f"there is an empty name in {file}")
    return names


def _matches(pattern: bytes) -> list[bytes]:
    """What a pattern matches, sorted; as Go's filepath.Glob: a star matches no slash, and leading dots too."""
    from lowtide_engine._kernel import KernelError

    try:
        return sorted(_glob(pattern))
    except KernelError as error:
        raise BadInput(f"{os.fsdecode(pattern)} is no pattern: {error}") from error


def _glob(pattern: bytes) -> Iterator[bytes]:
    from lowtide_engine._kernel import Patterns

    if not any(character in pattern for character in b"*?[\\"):
        if os.path.lexists(pattern):
            yield pattern
        return
    above, _, name = pattern.rpartition(b"/")
    if not name:
        yield from (path + b"/" for path in _glob(above) if os.path.isdir(path))
        return
    while b"**" in name:
        name = name.replace(b"**", b"*")
    matcher = Patterns([b"/" + name])
    folders = _glob(above) if above else iter([b"/" if pattern.startswith(b"/") else b"."])
    for folder in folders:
        prefix = b"" if folder == b"." and not above else folder.rstrip(b"/") + b"/"
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        yield from (prefix + found for found in names if matcher.matches(b"/" + found))
