"""The driver between the kernel and the storage, with a kernel that says what a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from lowtide_engine import transfer
from lowtide_engine.errors import EngineError, Interrupted, LockLost, RepositoryDamaged, StorageError
from lowtide_engine.reporting import Counted


@dataclass
class Pack:
    pack: str
    kind: str = "data"
    data: bytes = b"sealed"

    def release(self) -> bool:
        return True


@dataclass
class Index:
    ticket: int
    packs: list[str]
    json: bytes


@dataclass
class Piece:
    ticket: int
    pack: str
    offset: int = 0
    length: int = 10
    kind: str = "data"


@dataclass
class End:
    root: str = "root"
    summary: dict[str, int] = field(default_factory=dict)


def index(ticket: int, *packs: str) -> Index:
    return Index(ticket, list(packs), json.dumps({"packs": [{"id": pack, "blobs": []} for pack in packs]}).encode())


class Run:
    """Gives the events in turn; one that is a function is asked whether it is time for the next."""

    def __init__(self, *events: Any) -> None:
        self.events = deque(events)
        self.log: list[str] = []
        self.guard = threading.Lock()

    def next(self, timeout: float) -> Any:
        if self.events and callable(self.events[0]):
            if not self.events[0](self):
                time.sleep(0.005)
                return None
            self.events.popleft()
            return None
        return self.events.popleft() if self.events else None

    def say(self, text: str) -> None:
        with self.guard:
            self.log.append(text)

    def pack_stored(self, pack: str) -> None:
        self.say(f"stored {pack}")

    def index_stored(self, ticket: int) -> None:
        self.say(f"index {ticket}")

    def provide(self, ticket: int, data: bytes) -> None:
        self.say(f"provided {ticket}")

    def refuse(self, ticket: int, why: str) -> None:
        self.say(f"refused {ticket}: {why}")

    def flush_index(self) -> None:
        stored = [line.removeprefix("stored ") for line in self.log if line.startswith("stored")]
        self.say("flush")
        self.events = deque([index(99, *stored)])

    def cancel(self) -> None:
        self.say("cancel")

    def progress(self) -> Counted:
        return Counted(0, 0, 0, 0)


class Repository:
    """Stores what it is given; `failing` maps a pack or "index" to the error that storing it raises."""

    def __init__(self, run: Run, **failing: Exception) -> None:
        self.run = run
        self.failing = failing
        self.lock = None
        self.repository = SimpleNamespace(storage=SimpleNamespace(connections=2))

    def save_pack(self, pack: str, data: bytes, kind: str) -> None:
        if pack in self.failing:
            raise self.failing[pack]
        self.run.say(f"save {pack}")

    def save_index(self, plaintext: bytes) -> str:
        if "index" in self.failing:
            raise self.failing["index"]
        self.run.say("save index of " + ",".join(pack["id"] for pack in json.loads(plaintext)["packs"]))
        return "name"

    def load_piece(self, pack: str, offset: int, length: int, kind: str) -> bytes:
        if pack in self.failing:
            raise self.failing[pack]
        return bytes(length)


class Silent:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.fixture(autouse=True)
def kernel_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in {"Backup": Run, "PackReady": Pack, "IndexReady": Index, "Fetch": Piece, "Finished": End}.items():
        monkeypatch.setattr(transfer, name, kind)


def drive(run: Run, stop: threading.Event | None = None, *, outage: bool = False, **failing: Exception) -> Any:
    repository: Any = Repository(run, **failing)
    kernel_run: Any = run
    return transfer.Transfer(kernel_run, repository, Silent(), stop or threading.Event(), outage_ends_it=outage).drive()


def after(*lines: str) -> Any:
    return lambda run: set(lines) <= set(run.log)


def test_a_pack_is_acknowledged_after_it_is_stored_and_named_after_that() -> None:
    run = Run(Pack("a"), Pack("b"), after("stored a", "stored b"), index(1, "a", "b"), after("index 1"), End())

    assert drive(run).root == "root"

    for pack in "ab":
        assert run.log.index(f"save {pack}") < run.log.index(f"stored {pack}") < run.log.index("save index of a,b")
    assert run.log.index("save index of a,b") < run.log.index("index 1")


def test_an_index_that_names_what_is_not_stored_is_never_saved() -> None:
    run = Run(Pack("a"), after("stored a"), index(1, "a", "never handed out"))

    with pytest.raises(EngineError, match="not stored"):
        drive(run)

    assert "save index of a,never handed out" not in run.log
    assert "index 1" not in run.log


def test_the_first_pack_that_fails_for_good_ends_the_run_and_names_the_others() -> None:
    run = Run(Pack("a"), after("stored a"), Pack("b"), Pack("c"))

    with pytest.raises(StorageError, match="disk is full"):
        drive(run, b=StorageError("the disk is full"))

    stored = [line.removeprefix("stored ") for line in run.log if line.startswith("stored")]
    # Whether c is stored beside b, before that has failed, is up to the two threads.
    assert stored in (["a"], ["a", "c"])
    assert f"save index of {','.join(stored)}" in run.log
    assert run.log[-1] == "cancel"


@pytest.mark.parametrize(
    "failure", [LockLost("our lock was removed"), StorageError("no answer", retryable=True)], ids=["lock", "outage"]
)
def test_without_a_lock_or_a_storage_nothing_more_is_written(failure: EngineError) -> None:
    run = Run(Pack("a"), after("stored a"), Pack("b"))

    with pytest.raises(type(failure)):
        drive(run, b=failure)

    assert not [line for line in run.log if line.startswith("save index")]


def test_a_stop_names_what_is_stored_and_takes_no_more_packs() -> None:
    stop = threading.Event()

    def stopped(run: Run) -> bool:
        if "stored a" in run.log:
            stop.set()
        return stop.is_set()

    run = Run(Pack("a"), stopped, Pack("b"), End())

    with pytest.raises(Interrupted):
        drive(run, stop)

    assert run.log[-4:] == ["flush", "save index of a", "index 99", "cancel"]
    assert "save b" not in run.log


def test_a_stop_stores_an_index_that_waits_behind_slow_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel hands an index out once: dropped, all that it names would be stored again by the next run."""
    monkeypatch.setattr(transfer, "UPLOADS_GRACE_SECONDS", 0.05)
    monkeypatch.setattr(transfer, "FLUSH_SECONDS", 0.05)
    stop, go_on = threading.Event(), threading.Event()

    class Slow(Repository):
        def save_pack(self, pack: str, data: bytes, kind: str) -> None:
            super().save_pack(pack, data, kind)
            if pack.startswith("slow"):
                go_on.wait(30)

    class OnlyOnce(Run):
        def flush_index(self) -> None:
            self.say("flush")

    def stopped(run: Run) -> bool:
        stop.set()
        return True

    slow = [Pack(f"slow {number}") for number in range(transfer.UPLOADS)]
    busy = after(*(f"save {pack.pack}" for pack in slow))
    run = OnlyOnce(Pack("a"), after("stored a"), *slow, busy, index(1, "a"), stopped, End())
    repository: Any = Slow(run)
    kernel_run: Any = run

    try:
        with pytest.raises(Interrupted):
            transfer.Transfer(kernel_run, repository, Silent(), stop).drive()
    finally:
        go_on.set()

    assert run.log.count("save index of a") == 1
    assert run.log.index("save index of a") < run.log.index("cancel")
    assert "index 1" in run.log


def test_a_piece_is_provided_or_refused_with_its_reason() -> None:
    run = Run(Piece(1, "good"), Piece(2, "gone"), after("provided 1", "refused 2: pack gone is missing"), End())

    drive(run, gone=RepositoryDamaged("pack gone is missing"))


def test_a_storage_out_of_reach_is_never_taken_for_damage() -> None:
    run = Run(Piece(1, "a"), lambda _: False)

    with pytest.raises(StorageError, match="access denied"):
        drive(run, outage=True, a=StorageError("access denied"))

    assert not [line for line in run.log if line.startswith("refused")]
