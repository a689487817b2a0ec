"""What a job tells while it runs, apart from how it is shown: cli/ prints it, tests collect it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """How far a job is; the kernel's own object has this shape. Sizes in bytes."""

    @property
    def files_done(self) -> int: ...
    @property
    def files_total(self) -> int: ...
    @property
    def bytes_done(self) -> int: ...
    @property
    def bytes_total(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def scan_finished(self) -> bool:
        """Whether the totals are final."""

    @property
    def current(self) -> Sequence[bytes]:
        """What is worked on now: paths, raw."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A `Progress` of a job that Python counts itself."""

    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    errors: int = 0
    scan_finished: bool = True
    current: Sequence[bytes] = ()


NOT_BEGUN = Counted(0, 0, 0, 0, scan_finished=False)
"""While what comes before is read, such as a large index over a slow line."""


class Meter:
    """Bytes that left for the storage or came from it, of all threads: what moves while no file and no pack is done."""

    def __init__(self) -> None:
        self.total = 0
        self._guard = threading.Lock()

    def add(self, count: int) -> None:
        """Count so many bytes more."""
        with self._guard:
            self.total += count


class Reporter(Protocol):
    """Receives what happens. Called from one thread, the job's; paths are raw bytes."""

    def progress(self, progress: Progress) -> None:
        """How far the job is; called a few times a second at most."""

    def item_error(self, path: bytes, during: str, message: str) -> None:
        """A file or folder that could not be read or written; the job goes on and is not a success."""

    def item_done(self, path: bytes, action: str, size: int) -> None:
        """What was done with one item; only where details were asked for."""

    def problem(self, kind: str, message: str) -> None:
        """Damage that was found: `kind` is a CamelCase word."""

    def warn(self, text: str) -> None:
        """Something that a person must know although the job does without it; kept for the result."""

    def notice(self, message: str) -> None:
        """Something that a person may want to know, but no failure."""


class Counting:
    """A reporter that counts problems on their way to the real one."""

    def __init__(self, inner: Reporter) -> None:
        self.problems = 0
        self._inner = inner
        self.progress = inner.progress
        self.item_error = inner.item_error
        self.item_done = inner.item_done
        self.warn = inner.warn
        self.notice = inner.notice

    def problem(self, kind: str, message: str) -> None:
        """Count it, and pass it on."""
        self.problems += 1
        self._inner.problem(kind, message)


def shown(path: bytes) -> str:
    """A path as text that can be printed anywhere: bytes that are no UTF-8, and control characters, as \\xNN."""
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
