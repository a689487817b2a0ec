"""The queue of objects to look at: each key is worked on by one worker at a time, and never twice for one reason.

A key that is added while it is being worked on is done again afterwards; a delayed key comes at the earliest time.
Everything happens on one event loop: other threads add by `loop.call_soon_threadsafe(queue.add, key)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

logger = logging.getLogger(__name__)

UNEXPECTED_SECONDS = 30.0


class WorkQueue(Generic[K]):
    """Made on the event loop that works on it."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """How many keys wait for a worker (delayed ones do not)."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether a key waits or is worked on now."""
        return bool(self._waiting or self._working)

    def add(self, key: K) -> None:
        """Have `key` looked at as soon as a worker is free."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if self._closed:
            return
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Have `key` looked at in `seconds`, unless something asks for it earlier."""
        if seconds <= 0 or self._closed:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self.add, key)

    async def work(self, handle: Callable[[K], Awaitable[float | None]]) -> None:
        """Be a worker, for ever: `handle` answers in how many seconds to look again, None for only when asked."""
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            if self._closed:
                continue
            self._working.add(key)
            self._idle.clear()
            try:
                again: float | None = await handle(key)
            except Exception:
                logger.exception("working on %s failed in a way that nothing foresaw", key)
                again = UNEXPECTED_SECONDS
            finally:
                self._working.discard(key)
                if not self._working:
                    self._idle.set()
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif again is not None:
                self.add_after(key, again)

    def close(self) -> None:
        """Take no more keys, and forget those that wait."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def finish(self, within: float) -> bool:
        """Wait at most `within` seconds until no key is worked on; whether that is so."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), within)
        return self._idle.is_set()
