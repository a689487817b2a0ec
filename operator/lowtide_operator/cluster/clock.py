"""The API server's time, as its answers tell it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime


class ServerClock:
    """Follows the `Date` headers (whole seconds) of an API server; between two of them the steady clock counts.

    Small steps back are not shown: of several API servers behind one address, each has a clock of its own.
    """

    STEP_BACK = timedelta(seconds=30)

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._date: datetime | None = None
        self._heard = 0.0
        self._told: datetime | None = None

    def hear(self, header: str | None) -> None:
        """Take a Date header into account; one that is missing or malformed is ignored."""
        try:
            date = parsedate_to_datetime(header or "")
        except ValueError:
            return
        self._date = date if date.tzinfo else date.replace(tzinfo=UTC)
        self._heard = self._steady()

    def now(self) -> datetime:
        """The time in UTC. Before the first answer there is none: RuntimeError."""
        if self._date is None:
            raise RuntimeError("the API server has not told its time yet")
        now = self._date + timedelta(seconds=self._steady() - self._heard)
        if self._told is not None and timedelta() < self._told - now < self.STEP_BACK:
            return self._told
        self._told = now
        return now
