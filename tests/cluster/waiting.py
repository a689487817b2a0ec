"""Waiting for a condition: polled, bounded, and with a sentence when it doesn't come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TimedOut(Exception):
    """Something did not happen in time; the text says what, after how long, and what was last seen."""


def wait_for(
    what: str, check: Callable[[], T | None], *, within: float, every: float = 0.05, seen: Callable[[], str] = str
) -> T:
    """Call `check` until it answers something true, and answer that.

    `within` and `every` are seconds. An exception of `check` ends the wait at once. Raises TimedOut, with `seen()` at
    its end.
    """
    deadline = time.monotonic() + within
    while True:
        if answer := check():
            return answer
        if time.monotonic() >= deadline:
            raise TimedOut(f"{what}: not within {within:g} s. {seen()}".rstrip())
        time.sleep(every)
