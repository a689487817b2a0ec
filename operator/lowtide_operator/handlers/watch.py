"""kopf, embedded: in a thread with a loop of its own, and started again when it ends.

kopf cancels every task of its loop at its end, and ends at errors that pass (a watch error other than 410): on a loop
of its own it takes nothing with it, and signals stay with the main thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator

import kopf

from lowtide_operator.handlers.reports import SELECTORS
from lowtide_operator.settings import Settings

logger = logging.getLogger(__name__)

FINALIZER = "lowtide.dev/never-set"
"""kopf removes its finalizer from what has no handler that needs one: it must be a name that nobody uses."""

REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 10.0
FIRST_RESTART_SECONDS = 1.0
LAST_RESTART_SECONDS = 30.0


class Backoffs:
    """The waits between kopf's attempts, without end: it must have no length, or kopf gives up after so many."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.5, 1, 2, 3, 5)
        while True:
            yield 8


def kopf_settings(settings: Settings) -> kopf.OperatorSettings:
    """What makes kopf live through outages, and write nothing."""
    made = kopf.OperatorSettings()
    made.persistence.finalizer = FINALIZER
    made.posting.enabled = False
    made.peering.standalone = True
    made.process.ultimate_exiting_timeout = None
    made.networking.error_backoffs = Backoffs()
    made.networking.request_timeout = REQUEST_SECONDS
    made.networking.connect_timeout = CONNECT_SECONDS
    made.watching.inactivity_timeout = settings.inactivity
    made.watching.connect_timeout = CONNECT_SECONDS
    for kind, selector in SELECTORS.items():
        made.watching.label_selectors[kind.group, kind.version, kind.plural] = selector
    return made


class Watch:
    """Watching, from `start` to `stop`. `restarted` is called each time that it ended by itself."""

    def __init__(
        self, settings: Settings, build: Callable[[], kopf.OperatorRegistry], restarted: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._build = build
        self._restarted = restarted
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._supervise, name="watch", daemon=True)

    def start(self) -> None:
        """Start watching, in the background."""
        self._thread.start()

    def stop(self, within: float) -> None:
        """End watching, and wait for it at most `within` seconds. Blocks."""
        self._stopping.set()
        with self._guard:
            if self._loop is not None and self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(within)

    def _supervise(self) -> None:
        delay = FIRST_RESTART_SECONDS
        while not self._stopping.is_set():
            try:
                asyncio.run(self._once())
                problem = "it ended"
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
                logger.debug("watching failed", exc_info=True)
            if self._stopping.is_set():
                return
            logger.error("watching broke off (%s); it starts again in %.0f s", problem, delay)
            self._restarted()
            self._stopping.wait(delay)
            delay = min(2 * delay, LAST_RESTART_SECONDS)

    async def _once(self) -> None:
        with self._guard:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            if self._stopping.is_set():
                return
            await kopf.operator(
                registry=self._build(),
                settings=kopf_settings(self._settings),
                # Left out, kopf asks passwd for the user's name, which an image need not have. Its type is private.
                identity=self._settings.installation,  # type: ignore[arg-type]
                stop_flag=self._stop,
                clusterwide=self._settings.serves_all,
                namespaces=self._settings.namespaces,
            )
        finally:
            with self._guard:
                self._loop = self._stop = None
