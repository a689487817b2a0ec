"""Limits on how fast bytes leave and come (restic's --limit-upload and --limit-download), shared by all threads.

The storage takes what it is about to send, and what it has received, from a `Pace`, in pieces small enough that the
line is used evenly. All bytes go through one, so this is also where they are counted.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from lowtide_engine.storage.clock import Clock

_UNLIMITED_PIECE = 32 * 1024 * 1024
_SMALLEST_PIECE = 4096
_LARGEST_PIECE = 64 * 1024


class Pace(Protocol):
    """How fast bytes may go."""

    @property
    def limits(self) -> bool:
        """Whether `take` ever waits."""

    @property
    def piece(self) -> int:
        """How many bytes to move between two calls of `take`."""

    def take(self, count: int) -> None:
        """Wait until `count` bytes may go. Raises `Interrupted` when the run is asked to stop meanwhile."""


class Unlimited:
    """No limit."""

    limits = False
    piece = _UNLIMITED_PIECE

    def take(self, count: int) -> None:
        pass


class Limited:
    """At most `rate` bytes per second, over all threads together; time that nobody used is not saved up."""

    limits = True

    def __init__(self, rate: int, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._guard = threading.Lock()
        self._free_at = 0.0
        self.piece = min(max(rate // 8, _SMALLEST_PIECE), _LARGEST_PIECE)

    def take(self, count: int) -> None:
        with self._guard:
            now = self._clock.monotonic()
            begins = max(now, self._free_at)
            self._free_at = begins + count / self._rate
        if begins > now:
            self._clock.sleep(begins - now)


class Metered:
    """The pace of `inner`; `count` is told of bytes as they go, from any thread, those that are repeated included."""

    def __init__(self, inner: Pace, count: Callable[[int], None]) -> None:
        self._inner = inner
        self._count = count
        self.limits = inner.limits
        self.piece = inner.piece

    def take(self, count: int) -> None:
        self._inner.take(count)
        self._count(count)


UNLIMITED = Unlimited()


def pace_of(kibibytes: int, clock: Clock) -> Pace:
    """The pace for a limit in KiB/s; 0 is no limit."""
    return Limited(kibibytes * 1024, clock) if kibibytes else UNLIMITED


class BufferReader(io.RawIOBase):
    """A buffer as a file that can be rewound, without copying it whole: HTTP clients refuse a memoryview as it is.

    `pace` may be set once the client reads in order to send, and not only to sign.
    """

    def __init__(self, view: memoryview, pace: Pace = UNLIMITED) -> None:
        super().__init__()
        self._view = view
        self._at = 0
        self.pace = pace

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:
        into = memoryview(target).cast("B")
        piece = self._next(len(into))
        into[: len(piece)] = piece
        return len(piece)

    def read(self, size: int | None = -1) -> bytes:
        # The one that is inherited reads into a buffer of its own first, and copies that.
        return self.readall() if size is None or size < 0 else bytes(self._next(size))

    def _next(self, most: int) -> memoryview:
        count = max(0, min(most, len(self._view) - self._at, self.pace.piece))
        if count:
            self.pace.take(count)
        self._at += count
        return self._view[self._at - count : self._at]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._view)}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def __len__(self) -> int:
        return len(self._view)


def read_paced(read: Callable[[int], bytes], length: int, pace: Pace) -> bytes:
    """Up to `length` bytes from `read(size)`, fewer only where it ends earlier, at the pace."""
    parts: list[bytes] = []
    missing = length
    while missing:
        part = read(min(missing, pace.piece))
        if not part:
            break
        pace.take(len(part))
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
