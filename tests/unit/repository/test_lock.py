"""Locks under a clock that the test winds: who waits for whom, what is removed when, and when a lock is worth
nothing any more.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lowtide_engine.errors import BadInput, EngineError, Interrupted, LockLost, RepositoryDamaged, RepositoryLocked
from lowtide_engine.repository import Holder, Instant, LockFile, Locks
from lowtide_engine.repository.lock import LOST_AFTER, REFRESH_EVERY, SECOND_LOOK_AFTER, Lock
from lowtide_engine.repository.sealing import MasterKey
from lowtide_engine.repository.unpacked import UnpackedFiles
from lowtide_engine.storage import File, FileKind, Listed
from lowtide_engine.storage.memory import MemoryStorage
from tests.fakes import FakeClock, FaultyStorage

ME = Holder("cluster.shop.pod-1", "lowtide", 7, 1000, 1000, "pid:[1]")
OTHER = Holder("cluster.shop.pod-2", "lowtide", 7, 1000, 1000, "pid:[2]")
HOUR = 3600.0


class World:
    """One repository's locks as two processes see them, over one faulty storage and one clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.memory = MemoryStorage()
        self.storage = FaultyStorage(self.memory)
        self.key = MasterKey.generate()
        self.mine = self.locks(ME)
        self.theirs = self.locks(OTHER)
        self.held: list[Lock] = []

    def locks(self, holder: Holder) -> Locks:
        return Locks(self.storage, UnpackedFiles(self.storage, self.key, 2), self.clock, holder)

    def take(self, locks: Locks, **options: object) -> Lock:
        options = {"exclusive": False} | options
        lock = locks.acquire(**options)  # type: ignore[arg-type]
        self.held.append(lock)
        return lock

    def leave(self, holder: Holder = OTHER, *, age: float = 0.0, exclusive: bool = True) -> str:
        """A lock file of somebody who isn't there."""
        lock = LockFile(Instant.at(self.clock.now() - age), exclusive, holder)
        return UnpackedFiles(self.memory, self.key, 2).save(FileKind.LOCK, lock.encode())

    def names(self) -> list[str]:
        return sorted(listed.name for listed in self.memory.list(FileKind.LOCK))


@pytest.fixture
def world() -> object:
    made = World()
    yield made
    for lock in made.held:
        lock.release()


@pytest.mark.parametrize(
    ("theirs", "mine", "together"),
    [(False, False, True), (False, True, False), (True, False, False), (True, True, False)],
)
def test_who_may_hold_a_lock_together(world: World, theirs: bool, mine: bool, together: bool) -> None:
    other = world.take(world.theirs, exclusive=theirs)
    if together:
        world.take(world.mine, exclusive=mine)
        assert len(world.names()) == 2
    else:
        with pytest.raises(RepositoryLocked, match=r"pod-2 \(pid 7\)") as caught:
            world.take(world.mine, exclusive=mine)
        assert (caught.value.exit_code, caught.value.retryable) == (11, True)
        assert world.names() == [other.file.name], "who steps back leaves nothing"


def test_of_two_that_come_at_once_at_least_one_steps_back(world: World) -> None:
    """The other's file appears after our first look: the second look, 200 ms later, finds it."""
    world.clock.on_sleep = lambda seconds: world.leave() and None
    with pytest.raises(RepositoryLocked):
        world.take(world.mine, exclusive=False)
    assert world.clock.slept == [SECOND_LOOK_AFTER]
    assert len(world.names()) == 1


def test_a_deferred_second_look_is_waited_for_before_anything_is_uploaded(world: World) -> None:
    world.clock.on_sleep = lambda seconds: world.leave() and None
    lock = world.take(world.mine, exclusive=False, defer_second_look=True)
    with pytest.raises(RepositoryLocked):
        lock.confirm()
    with pytest.raises(RepositoryLocked):
        lock.ensure()
    assert lock.file.name not in world.names()


def test_a_deferred_second_look_that_finds_nothing_lets_go_on(world: World) -> None:
    lock = world.take(world.mine, defer_second_look=True)
    lock.confirm()
    lock.ensure()
    assert world.names() == [lock.file.name]


def test_a_lock_that_is_released_before_its_second_look_needs_none(world: World) -> None:
    over = threading.Event()
    waited: list[bool] = []
    world.clock.on_sleep = lambda seconds: waited.append(over.wait(20))
    lock = world.take(world.mine, defer_second_look=True)
    lock.ensure(confirmed=False)
    lock.release()
    assert (waited, world.names()) == ([], [])
    looks = world.storage.calls["list"]
    over.set()
    lock.confirm()
    assert world.storage.calls["list"] == looks


def test_a_lock_is_awaited_with_growing_pauses_and_a_word_at_each(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    other = world.take(world.theirs, exclusive=True)
    looked: list[float] = []

    def release_later(seconds: float) -> None:
        looked.append(seconds)
        if world.clock.now() > 1_750_000_000 + 300:
            other.release()

    world.clock.slept.clear()
    world.clock.on_sleep = release_later
    began = world.clock.now()
    world.take(world.mine, exclusive=True, retry_for=HOUR)
    assert looked[:6] == [5, 10, 20, 40, 60, 60]
    told = [said for said in caplog.messages if "is locked" in said and "trying again for" in said]
    assert len(told) == len([pause for pause in looked if pause >= 5])
    assert world.clock.now() - began < 400


def test_it_gives_up_when_it_was_told_to(world: World) -> None:
    world.take(world.theirs, exclusive=True)
    began = world.clock.now()
    with pytest.raises(RepositoryLocked):
        world.take(world.mine, exclusive=True, retry_for=100)
    assert world.clock.now() - began == pytest.approx(100)


def test_waiting_ends_when_asked_to_stop_and_leaves_nothing(world: World) -> None:
    other = world.take(world.theirs, exclusive=True)
    world.clock.stopped = True
    with pytest.raises(Interrupted):
        world.take(world.mine, exclusive=True, retry_for=HOUR)
    other.release()
    with pytest.raises(Interrupted):
        world.take(world.mine, exclusive=True)
    assert world.names() == []


@pytest.mark.parametrize(("age", "cleared"), [(29 * 60, False), (31 * 60, True), (24 * HOUR, True)])
def test_who_is_about_to_give_up_clears_what_nobody_refreshed(world: World, age: float, cleared: bool) -> None:
    """A lock left by a killed mover of another system must not block for ever."""
    left = world.leave(age=age)
    if cleared:
        lock = world.take(world.mine, exclusive=True, clear_unrefreshed=True)
        assert world.names() == [lock.file.name]
    else:
        with pytest.raises(RepositoryLocked):
            world.take(world.mine, exclusive=True, clear_unrefreshed=True)
        assert world.names() == [left]


def test_nothing_is_cleared_before_giving_up(world: World) -> None:
    left = world.leave(age=HOUR)
    seen: list[bool] = []
    world.clock.on_sleep = lambda seconds: seen.append(left in world.names())
    world.take(world.mine, exclusive=True, retry_for=60, clear_unrefreshed=True)
    waits, second_look = seen[:-1], seen[-1]
    assert waits
    assert all(waits)
    assert not second_look


def test_clearing_is_tried_once(world: World) -> None:
    """A storage that takes deletions and doesn't do them must not keep us for ever."""

    class Keeping(FaultyStorage):
        def delete(self, file: File) -> None:
            self.calls["delete"] += 1

    left = world.leave(age=HOUR)
    world.storage = Keeping(world.memory)
    with pytest.raises(RepositoryLocked):
        world.take(world.locks(ME), exclusive=True, clear_unrefreshed=True)
    assert world.storage.calls["delete"] == 1
    assert world.names() == [left]


def test_nothing_is_cleared_unless_asked(world: World) -> None:
    left = world.leave(age=HOUR)
    with pytest.raises(RepositoryLocked):
        world.take(world.mine, exclusive=True, retry_for=60)
    assert world.names() == [left]


def test_locks_of_a_dead_holder_are_removed_first(world: World) -> None:
    world.leave(OTHER)
    third = world.leave(replace(OTHER, hostname="cluster.shop.pod-3"), exclusive=False)
    lock = world.take(world.mine, exclusive=False, dead_holders=[OTHER.hostname])
    assert world.names() == sorted([third, lock.file.name])
    for wrong in ("", ME.hostname):
        with pytest.raises(BadInput):
            world.mine.remove_held_by(wrong)


def test_a_lock_is_renewed_before_the_old_one_goes(world: World) -> None:
    lock = world.take(world.mine)
    first = lock.file.name
    world.clock.pass_by(REFRESH_EVERY - 1)
    lock.tick()
    assert world.names() == [first]
    world.clock.pass_by(1)
    world.storage.calls.clear()
    lock.tick()
    assert lock.file.name != first
    assert world.names() == [lock.file.name]
    assert lock.age == 0
    lock.ensure()


def test_a_lock_that_stays_refreshed_holds_for_ever(world: World) -> None:
    lock = world.take(world.mine)
    for _ in range(100):
        world.clock.pass_by(REFRESH_EVERY)
        lock.tick()
        lock.ensure()
        assert len(world.names()) == 1


def test_an_old_lock_file_that_could_not_be_removed_is_removed_later_and_is_no_conflict(world: World) -> None:
    lock = world.take(world.mine, exclusive=True)
    world.storage.plan = {"delete": ["final"]}
    world.clock.pass_by(REFRESH_EVERY)
    lock.tick()
    assert len(world.names()) == 2
    lock.ensure()
    world.clock.pass_by(REFRESH_EVERY)
    lock.tick()
    assert world.names() == [lock.file.name]


def test_a_refresh_that_fails_is_tried_again_until_it_is_too_late(world: World) -> None:
    lock = world.take(world.mine)
    world.storage.plan = {"save": ["final"] * 3}
    for _ in range(3):
        world.clock.pass_by(REFRESH_EVERY)
        lock.tick()
        lock.ensure()
    world.clock.pass_by(REFRESH_EVERY)
    lock.tick()
    assert lock.age == 0
    assert lock.failure is None


@pytest.mark.parametrize(("seconds", "holds"), [(20 * 60, True), (LOST_AFTER, False)])
def test_a_lock_is_as_old_as_the_beginning_of_its_save(world: World, seconds: float, holds: bool) -> None:
    """The file says when its save began; over a slow storage it comes into the world old."""
    lock = world.take(world.mine)
    world.storage.on_call = lambda verb: world.clock.pass_by(seconds) if verb == "save" else None
    lock.refresh()
    assert lock.age == seconds
    if holds:
        lock.ensure()
    else:
        with pytest.raises(LockLost):
            lock.ensure()


@pytest.mark.parametrize("sleeping", ["stopped", "suspended"])
def test_a_process_that_wakes_up_too_late_has_lost_its_lock(world: World, sleeping: str) -> None:
    """A stopped process's steady clock goes on, a suspended machine's doesn't: the wall clock counts in both cases."""
    lock = world.take(world.mine)
    (world.clock.pass_by if sleeping == "stopped" else world.clock.suspend)(LOST_AFTER)
    with pytest.raises(LockLost, match="not refreshed"):
        lock.ensure()
    assert lock.failure is not None
    lock.tick()
    with pytest.raises(LockLost):
        lock.refresh()


def test_a_wall_clock_that_is_set_back_makes_no_lock_young(world: World) -> None:
    lock = world.take(world.mine)
    world.clock.suspend(-HOUR)
    world.clock.pass_by(LOST_AFTER)
    with pytest.raises(LockLost):
        lock.ensure()


def test_a_lock_removed_under_a_stopped_process_is_lost_for_ever(world: World) -> None:
    """Somebody unlocked while we were stopped; even when our file comes back, what happened in between can't be
    undone.
    """
    lock = world.take(world.mine)
    file = File(FileKind.LOCK, lock.file.name)
    content = world.memory.load(file)
    world.clock.pass_by(REFRESH_EVERY + 1)
    world.memory.delete(file)
    with pytest.raises(LockLost, match="removed by somebody"):
        lock.ensure()
    world.memory.save(file, content)
    with pytest.raises(LockLost):
        lock.ensure()


def test_a_removed_lock_is_not_revived_by_the_refresh(world: World) -> None:
    lock = world.take(world.mine)
    world.memory.delete(File(FileKind.LOCK, lock.file.name))
    world.clock.pass_by(REFRESH_EVERY)
    lock.tick()
    assert world.names() == []
    assert isinstance(lock.failure, LockLost)


@pytest.mark.parametrize("removed", [True, False])
def test_a_process_that_is_stopped_inside_its_refresh_doesnt_come_back_with_a_new_lock(
    world: World, removed: bool
) -> None:
    """Stopped after it saw its old lock and before it wrote the new one, for a minute in which somebody unlocked,
    or an hour.
    """
    lock = world.take(world.mine)
    world.clock.pass_by(REFRESH_EVERY)

    class Stopping(FaultyStorage):
        def list(self, kind: FileKind) -> Iterator[Listed]:
            listed = [*super().list(kind)]
            if self.calls["list"] == 1:
                world.clock.pass_by(60 if removed else HOUR)
                if removed:
                    self.inner.delete(File(FileKind.LOCK, lock.file.name))
            return iter(listed)

    lock._locks._storage = Stopping(world.memory)
    with pytest.raises(LockLost):
        lock.refresh()
    with pytest.raises(LockLost):
        lock.ensure()
    lock.release()
    assert world.names() == []


def test_a_listing_that_lags_behind_loses_no_lock(world: World) -> None:
    lock = world.take(world.mine)
    world.storage.plan = {"list": ["behind"]}
    lock.ensure()
    assert world.storage.faults["behind"] == 1


def test_a_storage_that_fails_proves_nothing(world: World) -> None:
    lock = world.take(world.mine)
    world.storage.plan = {"list": ["final"]}
    with pytest.raises(EngineError, match="for good"):
        lock.ensure()
    lock.ensure()


def test_release_removes_the_lock_once_and_never_fails(world: World) -> None:
    lock = world.take(world.mine)
    other = world.take(world.theirs)
    lock.release()
    lock.release()
    assert world.names() == [other.file.name]
    with pytest.raises(LockLost, match="released"):
        lock.ensure()
    world.storage.plan = {"delete": ["final"]}
    other.release()


def test_release_ends_the_refreshing_thread(world: World) -> None:
    lock = world.take(world.mine)
    keeper = lock._keeper
    assert keeper is not None
    assert keeper.is_alive()
    lock.release()
    assert not keeper.is_alive()
    lock.refresh()
    assert world.names() == []


def test_a_lock_that_can_not_be_read_is_taken_seriously(world: World) -> None:
    name = world.leave()
    world.memory.save(File(FileKind.LOCK, name), b"damaged")
    with pytest.raises(RepositoryDamaged, match="remove-all"):
        world.take(world.mine)
    assert world.clock.slept == [5, 10, 20]
    assert world.mine.remove_abandoned() == []
    assert world.mine.remove_all() == 1
    world.take(world.mine)


def test_a_lock_that_becomes_readable_in_time_is_read(world: World) -> None:
    name = world.leave()
    content = world.memory.load(File(FileKind.LOCK, name))
    world.memory.save(File(FileKind.LOCK, name), content[:50])
    world.clock.on_sleep = lambda seconds: world.memory.save(File(FileKind.LOCK, name), content)
    with pytest.raises(RepositoryLocked):
        world.take(world.mine)


def test_an_empty_lock_file_is_passed_over(world: World) -> None:
    world.memory.save(File(FileKind.LOCK, "ab" * 32), b"")
    world.take(world.mine, exclusive=True)


def test_a_lock_that_goes_while_it_is_looked_at_is_no_conflict(world: World) -> None:
    name = world.leave()

    class Vanishing(FaultyStorage):
        def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
            if file.name == name and name in world.names():
                self.inner.delete(file)
            return super().load(file, offset, length)

    world.storage = Vanishing(world.memory)
    world.take(world.locks(ME), exclusive=True)


def gone_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


HERE = Holder("host", "u", os.getpid(), 0, 0, "pid:[4026531836]")


@pytest.mark.parametrize(
    ("holder", "me", "age", "removed"),
    [
        (OTHER, HERE, 31 * 60, True),
        (OTHER, HERE, 29 * 60, False),
        (HERE, HERE, 0, False),
        (replace(HERE, pid=-1), HERE, 0, True),
        (replace(HERE, pid=-1, pid_namespace=""), HERE, 0, True),
        (replace(HERE, pid=-1, pid_namespace="pid:[9]"), HERE, 0, False),
        (replace(HERE, pid=-1, hostname="elsewhere"), HERE, 0, False),
        (replace(HERE, pid=-1, pid_namespace=""), replace(HERE, pid_namespace="pid:[9]"), 0, False),
        (replace(HERE, pid=0), HERE, 0, False),
    ],
    ids=[
        "unrefreshed",
        "young",
        "alive",
        "dead",
        "dead restic on the host",
        "pid of another namespace",
        "pid of another host",
        "restic's, and we are in a container",
        "no pid at all",
    ],
)
def test_unlock_removes_what_nobody_holds(world: World, holder: Holder, me: Holder, age: float, removed: bool) -> None:
    """A pid of -1 stands for one that has ended."""
    name = world.leave(replace(holder, pid=gone_pid()) if holder.pid == -1 else holder, age=age)
    gone = world.locks(me).remove_abandoned()
    assert [lock.name for lock in gone] == ([name] if removed else [])
    assert world.names() == ([] if removed else [name])


def test_the_file_is_restics(world: World) -> None:
    text = LockFile(Instant.parse("2024-01-02T03:04:05.6Z"), True, replace(ME, uid=0, gid=5, pid_namespace="")).encode()
    assert text == (
        b'{"time":"2024-01-02T03:04:05.6Z","exclusive":true,"hostname":"cluster.shop.pod-1","username":"lowtide",'
        b'"pid":7,"gid":5}'
    )
    assert LockFile.decode("ab" * 32, text).holder == replace(ME, uid=0, gid=5, pid_namespace="")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"time":"x"}', b'{"time":"2024-01-02T03:04:05Z","pid":"7"}', b"null"]
)
def test_what_is_no_lock_is_refused(text: bytes) -> None:
    with pytest.raises(RepositoryDamaged):
        LockFile.decode("ab" * 32, text)


def test_the_holder_comes_from_the_environment_or_the_host() -> None:
    assert Holder.myself({"LOWTIDE_HOLDER": "c.n.p"}).hostname == "c.n.p"
    mine = Holder.myself({})
    assert mine.hostname == os.uname().nodename
    assert mine.pid == os.getpid()
    assert mine.pid_namespace.startswith("pid:[")


@pytest.mark.parametrize("exclusive", [(True, True), (True, False), (False, True)], ids=str)
@pytest.mark.parametrize("step", range(12))
def test_two_never_hold_what_excludes_them_wherever_one_comes_in_between(
    world: World, exclusive: tuple[bool, bool], step: int
) -> None:
    """The other takes its lock, as a whole, before the `step`-th call that we make to the storage."""
    held: list[Lock] = []

    class Interleaved(FaultyStorage):
        calls_left = step

        def _next(self, verb: str) -> str:
            self.calls_left -= 1
            if self.calls_left == -1:
                with contextlib.suppress(RepositoryLocked):
                    held.append(world.theirs.acquire(exclusive=exclusive[1]))
            return super()._next(verb)

    ours = Interleaved(world.memory)
    locks = Locks(ours, UnpackedFiles(ours, world.key, 2), world.clock, ME)
    with contextlib.suppress(RepositoryLocked):
        held.append(locks.acquire(exclusive=exclusive[0]))
    try:
        assert len(held) <= 1
        assert len(world.names()) == len(held), "who stepped back left nothing"
    finally:
        for lock in held:
            lock.release()
