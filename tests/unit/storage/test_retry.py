"""Repetition: bounded, only where it helps, and never a second truth about what was stored."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lowtide_engine.errors import FileMissing, FileShort, FileUnreadable, Interrupted, StorageError
from lowtide_engine.storage import CONFIG, File, FileKind
from lowtide_engine.storage.memory import MemoryStorage
from lowtide_engine.storage.retry import GIVE_UP_AFTER, GIVE_UP_ON_ANOTHER, LONGEST_PAUSE, Retrying
from tests.fakes import FakeClock, FaultyStorage

DATA = b"a pack"
PACK = File(FileKind.DATA, hashlib.sha256(DATA).hexdigest())


class World:
    """A faulty storage with retries around it, and the clock they go by."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.memory = MemoryStorage()
        self.faulty = FaultyStorage(self.memory)
        self.storage = Retrying(self.faulty, self.clock, jitter=lambda: 0.5)


@pytest.fixture
def world() -> World:
    return World()


def test_what_passes_is_repeated_with_growing_pauses(world: World) -> None:
    world.faulty.plan = {"save": ["fail"] * 8}
    world.storage.save(PACK, DATA)
    assert world.memory.load(PACK) == DATA
    assert world.clock.slept == [0.5, 1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE]


def test_pauses_are_jittered_so_that_movers_dont_march_in_step() -> None:
    slept = []
    for draw in (0.0, 0.99):
        clock, faulty = FakeClock(), FaultyStorage(MemoryStorage())
        faulty.plan = {"list": ["fail"]}
        assert [*Retrying(faulty, clock, jitter=lambda draw=draw: draw).list(FileKind.LOCK)] == []
        slept += clock.slept
    assert slept == [0.25, 0.745]


def test_it_gives_up_in_the_end(world: World) -> None:
    world.faulty.plan = {"stat": ["fail"] * 1000}
    began = world.clock.now()
    with pytest.raises(StorageError, match="no connection"):
        world.storage.stat(PACK)
    assert GIVE_UP_AFTER - LONGEST_PAUSE <= world.clock.now() - began <= GIVE_UP_AFTER


@pytest.mark.parametrize("verb", ["save", "load", "stat", "list", "delete"])
def test_what_is_final_is_not_repeated(world: World, verb: str) -> None:
    world.memory.save(PACK, DATA)
    world.faulty.plan = {verb: ["final"]}
    calls = {
        "save": lambda: world.storage.save(PACK, DATA),
        "load": lambda: world.storage.load(PACK),
        "stat": lambda: world.storage.stat(PACK),
        "list": lambda: world.storage.list(FileKind.DATA),
        "delete": lambda: world.storage.delete(PACK),
    }
    with pytest.raises(StorageError, match="for good"):
        calls[verb]()
    assert world.faulty.calls[verb] == 1
    assert world.clock.slept == []


def test_what_is_missing_is_not_waited_for(world: World) -> None:
    with pytest.raises(FileMissing):
        world.storage.load(PACK)
    assert world.clock.slept == []


def test_a_lost_reply_is_settled_by_looking_and_not_by_sending_again(world: World) -> None:
    world.faulty.plan = {"save": ["lost"]}
    world.storage.save(PACK, DATA)
    assert world.faulty.calls == {"save": 1, "stat": 1}
    assert world.clock.slept == []


def test_where_the_look_finds_nothing_it_is_sent_again(world: World) -> None:
    world.faulty.plan = {"save": ["lost"], "stat": ["fail"]}
    world.storage.save(PACK, DATA)
    assert world.faulty.calls["save"] == 2
    assert world.memory.load(PACK) == DATA


def test_a_repetition_that_is_refused_is_settled_by_looking(world: World) -> None:
    """A bucket that lets nobody overwrite answers 403 to the repetition of a save that was done."""
    world.faulty.plan = {"save": ["lost", "refused"], "stat": ["fail", "ok"]}
    world.storage.save(PACK, DATA)
    assert world.memory.load(PACK) == DATA


def test_a_save_that_was_refused_and_not_done_fails(world: World) -> None:
    world.faulty.plan = {"save": ["refused"]}
    with pytest.raises(StorageError, match="refused"):
        world.storage.save(PACK, DATA)
    assert [*world.memory.list(FileKind.DATA)] == []


def test_a_file_of_another_size_under_the_name_is_not_taken_for_it(world: World) -> None:
    world.memory.save(PACK, b"cut")
    world.faulty.plan = {"save": ["refused"]}
    with pytest.raises(StorageError, match="refused"):
        world.storage.save(PACK, DATA)


def test_the_config_is_settled_by_its_bytes(world: World) -> None:
    world.memory.save(CONFIG, b"AAAA")
    world.faulty.plan = {"save": ["refused"]}
    with pytest.raises(StorageError, match="refused"):
        world.storage.save(CONFIG, b"BBBB")
    world.faulty.plan = {"save": ["lost"]}
    world.storage.save(CONFIG, b"BBBB")
    assert world.memory.load(CONFIG) == b"BBBB"


def test_a_cut_read_is_repeated(world: World) -> None:
    world.memory.save(PACK, DATA)
    world.faulty.plan = {"load": ["cut", "cut"]}
    assert world.storage.load(PACK) == DATA


def test_a_file_that_is_always_short_is_damaged_and_not_unlucky() -> None:
    class Short(MemoryStorage):
        asked = 0

        def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
            self.asked += 1
            raise FileShort("short")

    short, clock = Short(), FakeClock()
    with pytest.raises(FileShort):
        Retrying(short, clock).load(PACK, 0, 10)
    assert short.asked == 3


class Failing(MemoryStorage):
    """Answers 500 (or what `error` is) for the files in `broken`, for everything where that is None."""

    def __init__(self, broken: set[File] | None, error: StorageError | None = None) -> None:
        super().__init__()
        self.broken, self.asked = broken, 0
        self.error = error or StorageError("status 500", retryable=True)
        self.save(CONFIG, b"config")

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        if self.broken is None or file in self.broken:
            self.asked += 1
            raise self.error
        return super().load(file, offset, length)


OTHER = File(FileKind.DATA, hashlib.sha256(b"other").hexdigest())


def test_one_file_that_always_fails_is_no_outage_and_is_waited_for_once() -> None:
    failing, clock = Failing({PACK, OTHER}), FakeClock()
    storage = Retrying(failing, clock, jitter=lambda: 0.5)
    with pytest.raises(FileUnreadable, match="500") as caught:
        storage.load(PACK, 0, 10)
    assert not caught.value.retryable
    assert GIVE_UP_AFTER - LONGEST_PAUSE <= sum(clock.slept) <= GIVE_UP_AFTER
    clock.slept.clear()
    with pytest.raises(FileUnreadable):
        storage.load(PACK, 10, 10)
    assert clock.slept == []
    with pytest.raises(FileUnreadable):
        storage.load(OTHER)
    assert sum(clock.slept) <= GIVE_UP_ON_ANOTHER


def test_what_a_disk_cannot_read_is_asked_for_a_few_times() -> None:
    clock = FakeClock()
    failing = Failing({PACK}, FileUnreadable("Input/output error", retryable=True))
    with pytest.raises(FileUnreadable, match="Input/output error") as caught:
        Retrying(failing, clock, jitter=lambda: 0.5).load(PACK)
    assert (failing.asked, caught.value.retryable) == (4, False)
    assert sum(clock.slept) < 5


@pytest.mark.parametrize("error", [StorageError("down", retryable=True), FileUnreadable("down", retryable=True)])
@pytest.mark.parametrize("one_before", [False, True])
def test_where_not_even_the_config_can_be_read_it_is_an_outage(error: StorageError, one_before: bool) -> None:
    failing, clock = Failing({OTHER}, error), FakeClock()
    storage = Retrying(failing, clock, jitter=lambda: 0.5)
    if one_before:
        with pytest.raises(FileUnreadable):
            storage.load(OTHER)
    failing.broken = None
    clock.slept.clear()
    with pytest.raises(StorageError, match="down") as caught:
        storage.load(PACK)
    assert caught.value.retryable
    assert GIVE_UP_AFTER - 2 * LONGEST_PAUSE <= sum(clock.slept) <= GIVE_UP_AFTER + LONGEST_PAUSE


def test_an_outage_that_ends_late_costs_no_file() -> None:
    failing, clock = Failing(None), FakeClock()
    failing.save(PACK, DATA)

    def recover(_: float) -> None:
        if sum(clock.slept) > GIVE_UP_AFTER - 2 * LONGEST_PAUSE:
            failing.broken = set()

    clock.on_sleep = recover
    assert Retrying(failing, clock, jitter=lambda: 0.5).load(PACK) == DATA


def test_a_listing_that_breaks_off_is_asked_for_again_as_a_whole(world: World) -> None:
    for number in range(10):
        data = str(number).encode()
        world.memory.save(File(FileKind.LOCK, hashlib.sha256(data).hexdigest()), data)
    world.faulty.plan = {"list": ["cut", "lost"]}
    assert sorted(world.storage.list(FileKind.LOCK)) == sorted(world.memory.list(FileKind.LOCK))


def test_a_deletion_whose_reply_was_lost_is_done(world: World) -> None:
    world.memory.save(PACK, DATA)
    world.faulty.plan = {"delete": ["lost"]}
    world.storage.delete(PACK)
    assert [*world.memory.list(FileKind.DATA)] == []


def test_deleting_what_never_was_there_says_so(world: World) -> None:
    with pytest.raises(FileMissing):
        world.storage.delete(PACK)


def test_who_is_asked_to_stop_doesnt_wait(world: World) -> None:
    world.faulty.plan = {"save": ["fail"] * 5}
    world.clock.stopped = True
    with pytest.raises(Interrupted):
        world.storage.save(PACK, DATA)
    assert world.faulty.calls["save"] == 1


def test_no_more_calls_at_once_than_connections_but_for_locks_and_indexes() -> None:
    """Two saves hold both connections: a third waits for one of them; a lock and an index are stored at once."""
    memory = MemoryStorage()
    faulty, clock = FaultyStorage(memory), FakeClock()
    storage = Retrying(faulty, clock)
    entered, go = threading.Semaphore(0), threading.Event()
    holding = threading.local()

    def enter(verb: str) -> None:
        if getattr(holding, "it", False):
            entered.release()
            assert go.wait(60)

    faulty.on_call = enter

    def save(number: int) -> None:
        holding.it = True
        data = bytes([number])
        storage.save(File(FileKind.DATA, hashlib.sha256(data).hexdigest()), data)

    with ThreadPoolExecutor(3) as pool:
        saves = [pool.submit(save, number) for number in range(3)]
        assert entered.acquire(timeout=60)
        assert entered.acquire(timeout=60)
        for kind in (FileKind.LOCK, FileKind.INDEX):
            small = File(kind, "ab" * 32)
            storage.save(small, b"small")
            assert memory.load(small) == b"small"
        assert not entered.acquire(timeout=0.05)
        go.set()
        for done in saves:
            done.result(60)
    assert len([*memory.list(FileKind.DATA)]) == 3
