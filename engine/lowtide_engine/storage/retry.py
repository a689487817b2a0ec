"""Repetition around any storage: bounded, with growing and jittered pauses. Storages themselves never retry."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from lowtide_engine.errors import FileMissing, FileShort, FileUnreadable, StorageError
from lowtide_engine.storage.base import CONFIG, File, FileKind, Listed, Storage
from lowtide_engine.storage.clock import Clock

if TYPE_CHECKING:
    from typing_extensions import Buffer

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
GIVE_UP_AFTER = 900.0
"""Seconds from the first failure of one call, as restic has it."""
SHORT_READS = 3
"""A file that is always too short, or that a disk can't read, is damaged, not unlucky: it is asked for this many
times."""
GIVE_UP_ON_ANOTHER = 60.0
"""Seconds for a file where another one was found to be unreadable before, and the storage answers."""


class Retrying:
    """A `Storage` that repeats what failed retryably until it works or `give_up_after` seconds have passed.

    It makes no more calls at once than the storage's `connections`. Those for locks, and saves of anything but packs,
    come on top: a refresh must not wait for packs, nor must the index that an interrupted backup leaves.

    A save or delete whose reply was lost is settled by looking: the name is the hash of the content, so a file of the
    right size under the name is the file. (The config has no such name; it is read back.)

    A load that fails to the end while the config can be read is the failure of one file: it raises FileUnreadable, not
    retryable, and pieces of that file are not waited for again. Without the config it is an outage, raised as it is.
    """

    def __init__(
        self,
        inner: Storage,
        clock: Clock,
        *,
        give_up_after: float = GIVE_UP_AFTER,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._give_up_after = give_up_after
        self._jitter = jitter
        self._unreadable: set[File] = set()
        self._slots = threading.BoundedSemaphore(inner.connections)

    @property
    def inner(self) -> Storage:
        """The storage that does the work."""
        return self._inner

    @property
    def location(self) -> str:
        return self._inner.location

    @property
    def connections(self) -> int:
        return self._inner.connections

    def create(self) -> None:
        self._repeat("create", self._inner.create)

    def save(self, file: File, data: Buffer) -> None:
        def attempt() -> None:
            try:
                self._inner.save(file, data)
            except StorageError as error:
                if not (error.ambiguous and self._is_stored(file, data)):
                    raise
                _log.info("%s was stored although its reply was lost: %s", file, error.message)

        self._repeat(f"save {file}", attempt, file.kind, on_top=file.kind is not FileKind.DATA)

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        def ask(patience: float) -> bytes:
            return self._repeat(
                f"load {file}", lambda: self._inner.load(file, offset, length), file.kind, give_up_after=patience
            )

        began = self._clock.monotonic()
        while file not in self._unreadable:
            try:
                return ask(min(self._give_up_after, GIVE_UP_ON_ANOTHER) if self._unreadable else self._give_up_after)
            except StorageError as error:
                if file == CONFIG or not error.retryable or isinstance(error, FileShort):
                    raise
                if self._answers():
                    break
                if self._clock.monotonic() - began + 1.5 * LONGEST_PAUSE > self._give_up_after:
                    raise
            self._clock.sleep(LONGEST_PAUSE)
        try:
            # Once more: what was an outage may just have ended.
            return ask(0.0)
        except StorageError as error:
            if not error.retryable or isinstance(error, FileShort):
                raise
            self._unreadable.add(file)
            raise FileUnreadable(error.message, retryable=False) from error

    def stat(self, file: File) -> int:
        return self._repeat(f"stat {file}", lambda: self._inner.stat(file), file.kind)

    def list(self, kind: FileKind) -> Iterator[Listed]:
        # Collected before it is given on: a listing that is repeated half-way must not name files twice, nor leave any
        # out.
        return iter(self._repeat(f"list {kind}", lambda: [*self._inner.list(kind)], kind))

    def delete(self, file: File) -> None:
        attempts = 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            try:
                self._inner.delete(file)
            except FileMissing:
                if attempts == 1:
                    raise

        self._repeat(f"delete {file}", attempt, file.kind)

    def close(self) -> None:
        self._inner.close()

    def _answers(self) -> bool:
        """Whether the storage gives anything: also a refusal is an answer."""
        try:
            self._inner.load(CONFIG)
        except StorageError as error:
            return not error.retryable
        return True

    def _is_stored(self, file: File, data: Buffer) -> bool:
        try:
            if file.kind is FileKind.CONFIG:
                return self._inner.load(file) == bytes(data)
            return self._inner.stat(file) == memoryview(data).nbytes
        except StorageError:
            return False

    def _repeat(
        self,
        doing: str,
        call: Callable[[], _T],
        kind: FileKind | None = None,
        *,
        on_top: bool = False,
        give_up_after: float | None = None,
    ) -> _T:
        patience = self._give_up_after if give_up_after is None else give_up_after
        on_top = on_top or kind is FileKind.LOCK
        slot: AbstractContextManager[object] = nullcontext() if on_top else self._slots
        pause = FIRST_PAUSE
        first_failure: float | None = None
        short = 0
        while True:
            try:
                with slot:
                    return call()
            except StorageError as error:
                now = self._clock.monotonic()
                first_failure = now if first_failure is None else first_failure
                short += isinstance(error, FileShort | FileUnreadable)
                wait = pause * (0.5 + self._jitter())
                if not error.retryable or short >= SHORT_READS or now + wait - first_failure > patience:
                    raise
                _log.warning("%s at %s failed, trying again in %.1f s: %s", doing, self.location, wait, error.message)
            self._clock.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
