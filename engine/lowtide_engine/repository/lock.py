"""Locks as restic writes and respects them (restic-format 1.10), held by a process that may be stopped, slept or
cut off at any time.

A lock is a file. Taking one: look for a conflict, write the file, wait 200 ms, look again, so that of two that come at
once at least one steps back. Holding one: write a new file every 5 minutes, remove the old. A lock is worth something
only while others can see it; `Lock.ensure` proves that, and everything that makes written data reachable calls it
first.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Sequence

from lowtide_engine.errors import BadInput, EngineError, FileMissing, LockLost, RepositoryDamaged, RepositoryLocked
from lowtide_engine.repository.go_text import Instant
from lowtide_engine.repository.holder import Holder, LockFile
from lowtide_engine.repository.unpacked import UnpackedFiles
from lowtide_engine.storage import Clock, File, FileKind, Storage

_log = logging.getLogger(__name__)

SECOND_LOOK_AFTER = 0.2
REFRESH_EVERY = 300.0
LOST_AFTER = 22.5 * 60.0
_TICK = 10.0
_LOAD_PAUSES = (5.0, 10.0, 20.0)
_RETRY_FIRST = 5.0
_RETRY_LONGEST = 60.0


class Locks:
    """The locks of one repository: seeing, taking and clearing them."""

    def __init__(self, storage: Storage, files: UnpackedFiles, clock: Clock, me: Holder) -> None:
        self._storage = storage
        self._files = files
        self._clock = clock
        self._me = me

    def names(self) -> list[str]:
        """Names of all lock files, also those that can't be read."""
        return sorted(listed.name for listed in self._storage.list(FileKind.LOCK))

    def all(self, *, without: Iterable[str] = ()) -> list[LockFile]:
        """Every lock but those named. Empty files (of an interrupted save elsewhere) and those that vanish
        meanwhile are passed over.

        One that can't be read is tried four times over 35 s, then RepositoryDamaged: it may be an exclusive one.
        """
        known: dict[str, LockFile] = {}
        passed = set(without)
        for pause in (*_LOAD_PAUSES, None):
            failure: RepositoryDamaged | None = None
            present = {listed.name for listed in self._storage.list(FileKind.LOCK) if listed.size} - passed
            for name in sorted(present - known.keys()):
                try:
                    known[name] = self._load(name)
                except FileMissing:
                    continue
                except RepositoryDamaged as error:
                    failure = error
            if failure is None:
                return [lock for name, lock in known.items() if name in present]
            if pause is None:
                raise RepositoryDamaged(
                    f"a lock can't be read, and may exclude us: {failure.message}",
                    hint="if nobody uses the repository, run `lowtide unlock --remove-all`",
                )
            self._clock.sleep(pause)
        raise AssertionError("the last pause is None")

    def acquire(
        self,
        *,
        exclusive: bool,
        retry_for: float = 0.0,
        clear_unrefreshed: bool = False,
        dead_holders: Sequence[str] = (),
        defer_second_look: bool = False,
    ) -> Lock:
        """Take a lock, or raise RepositoryLocked after `retry_for` seconds of trying every 5 to 60 s.

        `dead_holders` are hosts known to be dead: their locks are removed first. With `clear_unrefreshed`, locks that
        nobody refreshed for 30 minutes are removed once, when about to give up. With `defer_second_look`, the second
        look happens meanwhile: `confirm` and `ensure` wait for it, and raise RepositoryLocked where it found a
        conflict; a lock that is released before needs none. The caller releases the lock, whatever happens.
        """
        for holder in dead_holders:
            self.remove_held_by(holder)
        deadline = self._clock.monotonic() + retry_for
        pause = _RETRY_FIRST
        while True:
            try:
                return self._try(exclusive, defer_second_look)
            except RepositoryLocked as error:
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    if not clear_unrefreshed or not self._remove(self._unrefreshed(), "not refreshed for 30 minutes"):
                        raise
                    clear_unrefreshed = False
                    continue
                _log.warning("%s; trying again for %.0f s", error.message, left)
                self._clock.sleep(min(pause, left))
                pause = min(2 * pause, _RETRY_LONGEST)

    def remove_abandoned(self) -> list[LockFile]:
        """Remove what nobody holds any more (`unlock`): those not refreshed for 30 minutes, and those of dead
        processes of this host.
        """
        now = self._clock.now()
        return self._remove([lock for lock in self._readable() if lock.abandoned(now, self._me)], "abandoned")

    def remove_all(self) -> int:
        """Remove every lock, held or not, readable or not (`unlock --remove-all`); gives their number."""
        names = self.names()
        for name in names:
            self._delete(name)
        return len(names)

    def remove_held_by(self, holder: str) -> list[LockFile]:
        """Remove the locks of a host that is known to be dead (`--dead-holder`)."""
        if not holder:
            raise BadInput("a dead holder has a name")
        if holder == self._me.hostname:
            raise BadInput(f"{holder} is this process's own name, and it isn't dead")
        return self._remove([lock for lock in self._readable() if lock.holder.hostname == holder], "of a dead holder")

    def conflict(self, exclusive: bool, *, own: Iterable[str] = ()) -> LockFile | None:
        """A lock of somebody else that excludes one of ours, or None."""
        return next((lock for lock in self.all(without=own) if exclusive or lock.exclusive), None)

    def is_listed(self, name: str) -> bool:
        """Whether the lock file is there: by listing, and where the listing lacks it, by asking for it."""
        if any(listed.name == name for listed in self._storage.list(FileKind.LOCK)):
            return True
        try:
            self._storage.stat(File(FileKind.LOCK, name))
        except FileMissing:
            return False
        return True

    def _try(self, exclusive: bool, defer: bool) -> Lock:
        self._refuse_conflict(exclusive, ())
        lock = Lock(self, self._clock, LockFile(Instant.at(self._clock.now()), exclusive, self._me))
        lock.take(defer)
        return lock

    def _refuse_conflict(self, exclusive: bool, own: Iterable[str]) -> None:
        other = self.conflict(exclusive, own=own)
        if other is not None:
            raise RepositoryLocked(f"the repository in {self._storage.location} is locked: {other}")

    def _unrefreshed(self) -> list[LockFile]:
        now = self._clock.now()
        return [lock for lock in self._readable() if lock.unrefreshed(now)]

    def _readable(self) -> list[LockFile]:
        locks = []
        for listed in self._storage.list(FileKind.LOCK):
            try:
                locks.append(self._load(listed.name))
            except (FileMissing, RepositoryDamaged) as error:
                _log.info("passed over lock %s: %s", listed.name[:8], error.message)
        return locks

    def _load(self, name: str) -> LockFile:
        return LockFile.decode(name, self._files.load(FileKind.LOCK, name))

    def _save(self, lock: LockFile) -> str:
        return self._files.save(FileKind.LOCK, lock.encode())

    def _delete(self, name: str) -> None:
        with contextlib.suppress(FileMissing):
            self._storage.delete(File(FileKind.LOCK, name))

    def _remove(self, locks: list[LockFile], why: str) -> list[LockFile]:
        for lock in locks:
            self._delete(lock.name)
            _log.warning("removed %s: %s", lock, why)
        return locks


class Lock:
    """A lock that we hold, refreshed by a thread of its own until `release`. Made by `Locks.acquire`."""

    def __init__(self, locks: Locks, clock: Clock, wanted: LockFile) -> None:
        self._locks = locks
        self._clock = clock
        self._file = wanted
        self._wall = self._steady = 0.0
        self._own: list[str] = []
        self._failure: EngineError | None = None
        self._guard = threading.RLock()
        self._released = threading.Event()
        self._second_look: threading.Thread | None = None
        self._keeper: threading.Thread | None = None

    @property
    def file(self) -> LockFile:
        """The lock file as it was written last."""
        return self._file

    @property
    def exclusive(self) -> bool:
        """Whether it keeps everybody else out."""
        return self._file.exclusive

    @property
    def failure(self) -> EngineError | None:
        """Why the lock is worth nothing any more, or None: for whoever drives a long run to look at between events."""
        return self._failure

    @property
    def age(self) -> float:
        """Seconds since it was last written, by the wall clock or the steady one, whichever says more (a stopped
        process is older).
        """
        return max(self._clock.now() - self._wall, self._clock.monotonic() - self._steady)

    def take(self, defer_second_look: bool) -> None:
        """Write the lock file, look again for a conflict (now, or in a thread), and begin to refresh. Called once,
        by `Locks`.
        """
        try:
            self._write()
            if defer_second_look:
                self._second_look = threading.Thread(target=self._look_in_thread, name="lock-second-look", daemon=True)
                self._second_look.start()
            else:
                self._look_again()
        except BaseException:
            self.release()
            raise
        self._keeper = threading.Thread(target=self._keep, name="lock-refresh", daemon=True)
        self._keeper.start()

    def confirm(self) -> None:
        """Wait until the second look is over; raises what it found. Cheap afterwards. Nothing is uploaded before it."""
        second_look = self._second_look
        if second_look is not None:
            second_look.join()
            self._second_look = None
        if self._failure is not None:
            raise self._failure

    def ensure(self, *, confirmed: bool = True) -> None:
        """Prove that the lock still holds: confirmed, under 22.5 minutes old, and there for others to see; else
        LockLost, for ever.

        Costs one listing. Called before each index and snapshot is stored, and after the snapshot. Whoever only wants
        to know that a lock can be had needs it not `confirmed`.
        """
        if confirmed:
            self.confirm()
        with self._guard:
            self._check()

    def tick(self) -> None:
        """Refresh if it is time to. What the refreshing thread does every few seconds; never raises for what may
        pass.
        """
        if self._failure is not None or self._released.is_set() or self.age < REFRESH_EVERY:
            return
        try:
            self.refresh()
        except LockLost as error:
            _log.error("%s", error.message)
        except EngineError as error:
            _log.warning("could not refresh the lock, %.0f s old: %s", self.age, error.message)

    def refresh(self) -> None:
        """Write a new lock file, then remove the old one. Raises LockLost as `ensure` does, or the storage's error."""
        with self._guard:
            if self._released.is_set():
                return
            self._check()
            before, wall, steady = self._file.name, self._wall, self._steady
            self._write()
            # Stopped between the check and the write, we may have been gone for longer than others wait for us.
            self._check_continued(before, max(self._wall - wall, self._steady - steady))
            self._remove_old()

    def release(self) -> None:
        """Remove the lock file and stop refreshing. Idempotent, and never raises for a storage that fails: others
        will see it expire.

        A second look that has not begun is left out: whoever excludes us touches nothing before 200 ms, in which it
        looks for our lock again, and we have ended by then.
        """
        self._released.set()
        if self._keeper is not None and self._keeper is not threading.current_thread():
            self._keeper.join()
        with self._guard:
            for name in self._own:
                try:
                    self._locks._delete(name)
                except EngineError as error:
                    _log.warning("could not remove our lock %s: %s", name[:8], error.message)
            self._own = []

    def _check_continued(self, before: str, gap: float) -> None:
        """A new lock continues the old one only if that one was still there, and young enough, when the new one
        came.
        """
        if gap >= LOST_AFTER:
            self._lose(f"our lock was not refreshed for {gap / 60:.0f} minutes, so that others may have removed it")
        if not self._locks.is_listed(before):
            self._lose(f"our lock {before[:8]} was removed by somebody else")

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._released.is_set():
            raise LockLost("the lock was released already", hint="")
        if self.age >= LOST_AFTER:
            self._lose(
                f"our lock was not refreshed for {self.age / 60:.0f} minutes, so that others may have removed it"
            )
        if not self._locks.is_listed(self._file.name):
            self._lose(f"our lock {self._file.name[:8]} was removed by somebody else")

    def _lose(self, why: str) -> None:
        self._failure = LockLost(why)
        raise self._failure

    def _write(self) -> None:
        wall, steady = self._clock.now(), self._clock.monotonic()
        renewed = self._file.renewed(wall)
        name = self._locks._save(renewed)
        self._own.append(name)
        self._file = LockFile(renewed.time, renewed.exclusive, renewed.holder, name)
        self._wall, self._steady = wall, steady

    def _remove_old(self) -> None:
        for name in [name for name in self._own if name != self._file.name]:
            try:
                self._locks._delete(name)
            except EngineError as error:
                # Tried again at the next refresh and at the release.
                _log.warning("could not remove our old lock %s: %s", name[:8], error.message)
                continue
            self._own.remove(name)

    def _look_again(self) -> None:
        self._clock.sleep(SECOND_LOOK_AFTER)
        with self._guard:
            if not self._released.is_set():
                self._locks._refuse_conflict(self._file.exclusive, tuple(self._own))

    def _look_in_thread(self) -> None:
        try:
            self._look_again()
        except EngineError as error:
            self._failure = error
            with self._guard:
                for name in self._own:
                    try:
                        self._locks._delete(name)
                    except EngineError as failed:
                        _log.warning("could not remove our lock %s: %s", name[:8], failed.message)
        except BaseException as error:
            self._failure = EngineError(f"the second look at the locks failed: {error!r}")

    def _keep(self) -> None:
        while not self._released.wait(_TICK):
            self.tick()
