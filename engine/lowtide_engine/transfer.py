"""Between a run of the kernel and the storage: uploads its packs, saves its index files, fetches what it asks for.

The kernel never waits for Python and Python never works on bytes: this module hands buffers from one to the other, on
threads, and keeps the promise that nothing is named before it is stored (design: nothing is lost):

- `pack_stored` only after the storage's save returned; an index is saved only if each pack it names was.
- Nothing is uploaded before the second look at the locks; before each index our lock is made sure of.
- The first save that fails for good ends the run.
- When the run ends early, for whatever reason, packs that are stored are still named by an index, so that the next run
  does not upload them again; except where the lock was lost or the storage is out of reach.
"""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lowtide_engine._kernel import (
    Backup,
    Fetch,
    Finished,
    IndexReady,
    ItemDone,
    ItemError,
    KernelError,
    PackReady,
    Problem,
)
from lowtide_engine.errors import (
    EngineError,
    Interrupted,
    LockLost,
    RepositoryLocked,
    StorageError,
    Unreadable,
)
from lowtide_engine.reporting import Reporter

if TYPE_CHECKING:
    from lowtide_engine._kernel import Event, Run
    from lowtide_engine.repository import IndexedRepository

UPLOADS = 2
"""Packs that are stored at a time, where nothing else is said: each takes a pack's size of memory."""

FETCHES = 4
WAIT_SECONDS = 0.2
PROGRESS_SECONDS = 0.25
UPLOADS_GRACE_SECONDS = 6.0
FLUSH_SECONDS = 8.0


class RunFailed(EngineError):
    """The kernel ended a run: damaged data, a pattern that is none, a thread that died. It says what."""

    reason = "RunFailed"


@contextmanager
def told_as_engine_error() -> Iterator[None]:
    """Around whatever calls the kernel for a job: what it raises is told to people as any other failure is."""
    try:
        yield
    except KernelError as error:
        raise RunFailed(str(error)) from error


class Transfer:
    """Drives one run. `drive` is called once, from the job's thread; pieces come from `indexed`, and packs go there.

    `stop` is the flag that a signal sets. A storage that can't be reached, after all retries, ends the run.
    `outage_ends_it` says that one that refuses does so too (a check must not take that for damage); otherwise the
    kernel reports the files that it concerns. `uploads` packs are stored at a time.
    """

    def __init__(
        self,
        run: Run,
        indexed: IndexedRepository,
        reporter: Reporter,
        stop: threading.Event,
        *,
        outage_ends_it: bool = False,
        uploads: int = UPLOADS,
    ) -> None:
        self._run = run
        self._indexed = indexed
        self._reporter = reporter
        self._stop = stop
        self._outage_ends_it = outage_ends_it
        self._guard = threading.Lock()
        self._unnamed: set[str] = set()
        self._indexes: dict[int, IndexReady] = {}
        self._failure: BaseException | None = None
        self._backup = run if isinstance(run, Backup) else None
        self._uploads = _Workers("upload", uploads if self._backup else 0, self._fail)
        connections = indexed.repository.storage.connections
        self._fetches = _Workers("fetch", max(FETCHES, connections), self._fail)
        self._next_progress = 0.0

    def drive(self) -> Finished:
        """Answer the run's events until it is finished. Raises what ended it early: an EngineError or KernelError."""
        try:
            while True:
                self._raise_failure()
                self._report_progress()
                finished = self._dispatch(self._run.next(WAIT_SECONDS))
                if finished is not None:
                    self._raise_failure()
                    return finished
        except BaseException as error:
            if self._backup is not None and _may_still_write(self._failure or error):
                self._name_stored_packs(self._backup)
            raise
        finally:
            self._run.cancel()
            self._uploads.end()
            self._fetches.end()

    def _dispatch(self, event: Event | None) -> Finished | None:
        if isinstance(event, Finished):
            return event
        backup = self._backup
        if isinstance(event, PackReady) and backup is not None:
            self._uploads.put(lambda: self._upload(backup, event))
        elif isinstance(event, IndexReady) and backup is not None:
            with self._guard:
                self._indexes[event.ticket] = event
            self._uploads.put(lambda: self._store_waiting_index(backup, event.ticket))
        elif isinstance(event, Fetch):
            self._fetches.put(lambda: self._fetch(event))
        elif isinstance(event, ItemError):
            if event.notice:
                self._reporter.item_done(event.path, event.message, 0)
            else:
                self._reporter.item_error(event.path, event.during, event.message)
        elif isinstance(event, ItemDone):
            self._reporter.item_done(event.path, event.action, event.size)
        elif isinstance(event, Problem):
            self._reporter.problem(event.kind, event.message)
        return None

    def _upload(self, backup: Backup, event: PackReady) -> None:
        self._indexed.save_pack(event.pack, event.data, event.kind)
        if not event.release():
            # An attempt that failed left its traceback, and in it what it was sending, in a cycle.
            gc.collect()
        with self._guard:
            self._unnamed.add(event.pack)
        backup.pack_stored(event.pack)

    def _store_waiting_index(self, backup: Backup, ticket: int) -> None:
        """Store an index that was handed out, unless somebody does already."""
        with self._guard:
            event = self._indexes.pop(ticket, None)
        if event is not None:
            self._store_index(backup, event)

    def _store_index(self, backup: Backup, event: IndexReady) -> None:
        named = set(event.packs)
        with self._guard:
            early = named - self._unnamed
        if early:
            raise EngineError(f"an index was about to name pack {min(early)}, which is not stored; it was not written")
        self._indexed.save_index(event.json)
        with self._guard:
            self._unnamed -= named
        backup.index_stored(event.ticket)

    def _fetch(self, event: Fetch) -> None:
        try:
            data = self._indexed.load_piece(event.pack, event.offset, event.length, event.kind)
        except Interrupted:
            raise
        except EngineError as error:
            # Where retries have given up, each further question would wait as long again.
            outage = isinstance(error, StorageError) and error.retryable
            if not isinstance(error, Unreadable) and (outage or self._outage_ends_it):
                raise
            self._run.refuse(event.ticket, error.message)
        else:
            self._run.provide(event.ticket, data)

    def _name_stored_packs(self, run: Backup) -> None:
        """The run ends early: wait a little for uploads under way, then have an index written of all that is stored.

        An index that is being saved is waited for, however long: the lock must not go before it is there or failed. One
        that waited behind uploads is stored too: the kernel does not hand it out again.
        """
        self._uploads.drop_waiting()
        self._uploads.wait_idle(UPLOADS_GRACE_SECONDS)
        if not self._unnamed:
            return
        deadline = time.monotonic() + FLUSH_SECONDS
        try:
            for ticket in [*self._indexes]:
                self._store_waiting_index(run, ticket)
            run.flush_index()
            while self._unnamed and time.monotonic() < deadline:
                event = run.next(WAIT_SECONDS)
                if isinstance(event, IndexReady):
                    self._store_index(run, event)
                elif isinstance(event, Fetch):
                    run.refuse(event.ticket, "the run is ending")
        except (KernelError, EngineError) as error:
            self._reporter.notice(f"what was stored could not be indexed, and will be stored again: {error}")

    def _fail(self, error: BaseException) -> None:
        with self._guard:
            self._failure = self._failure or error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        lock = self._indexed.lock
        if lock is not None and lock.failure is not None:
            raise lock.failure
        if self._stop.is_set():
            raise Interrupted("stopped by a signal before it was done", hint="run it again to go on")

    def _report_progress(self) -> None:
        now = time.monotonic()
        if now >= self._next_progress:
            self._next_progress = now + PROGRESS_SECONDS
            self._reporter.progress(self._run.progress())


def _may_still_write(failure: BaseException) -> bool:
    """Whether an index can and may still be stored: not without our lock, and not to a storage that is out of reach."""
    if isinstance(failure, StorageError):
        return not failure.retryable
    return not isinstance(failure, LockLost | RepositoryLocked)


class _Workers:
    """Daemon threads that run what is put, in order. The first exception goes to `failed`; then nothing more is run."""

    def __init__(self, name: str, count: int, failed: Callable[[BaseException], None]) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._failed = failed
        self._changed = threading.Condition()
        self._open = 0
        self._broken = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name} {number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, task: Callable[[], None]) -> None:
        with self._changed:
            self._open += 1
        self._tasks.put(task)

    def drop_waiting(self) -> None:
        """Forget what has not begun."""
        while True:
            try:
                self._tasks.get_nowait()
            except queue.Empty:
                return
            self._count_down()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until nothing runs, at most `seconds`; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, seconds)

    def end(self) -> None:
        """Let the threads end after what they are doing; does not wait for them."""
        self.drop_waiting()
        for _ in self._threads:
            self._tasks.put(None)

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            try:
                if not self._broken:
                    task()
            except BaseException as error:
                self._broken = True
                self._failed(error)
            finally:
                del task
                self._count_down()

    def _count_down(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all()
