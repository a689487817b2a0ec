"""How long to wait before the next attempt, per key: doubled at each failure, forgotten at a success."""

from __future__ import annotations

import random
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Backoff(Generic[K]):
    """`first` and `most` are seconds. Up to a fifth is added at random, so that many keys do not come at once."""

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._failures: dict[K, int] = {}

    def failed(self, key: K) -> float:
        """Count a failure, and answer how many seconds to wait."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay: float = min(self._most, self._first * 2.0 ** min(count, 30))
        return delay * (1 + random.random() / 5)  # noqa: S311 - spreads load, keeps no secret

    def succeeded(self, key: K) -> None:
        """Start anew for `key`."""
        self._failures.pop(key, None)
