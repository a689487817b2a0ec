"""Time, as something that is passed in: waiting ends at once when the run is asked to stop, and tests bring a clock
of their own.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from lowtide_engine.errors import Interrupted


class Clock(Protocol):
    """Now, and how to wait. Times are seconds."""

    def now(self) -> float:
        """Wall clock, seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds that never run backwards, from any start."""

    def sleep(self, seconds: float) -> None:
        """Wait; raises `Interrupted` at once when the run is asked to stop, or was before."""


class SystemClock:
    """The machine's clock. `stop` is the flag that SIGINT and SIGTERM set."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self._stop = stop or threading.Event()

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        if self._stop.wait(max(0.0, seconds)):
            raise Interrupted("stopped while waiting, as asked")
