"""A clock that tests wind, and a storage that fails as they say."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lowtide_engine.errors import Interrupted, StorageError
from lowtide_engine.storage import File, FileKind, Listed, Storage

if TYPE_CHECKING:
    from typing_extensions import Buffer

EPOCH = 1_750_000_000.0


@dataclass
class FakeClock:
    """Time that passes only by `sleep` and `pass_by`. `on_sleep` is called at each sleep: what happens in the world
    meanwhile.
    """

    wall: float = EPOCH
    steady: float = 1000.0
    slept: list[float] = field(default_factory=list)
    stopped: bool = False
    on_sleep: Callable[[float], None] | None = None

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def sleep(self, seconds: float) -> None:
        if self.stopped:
            raise Interrupted("stopped")
        self.slept.append(seconds)
        self.pass_by(seconds)
        if self.on_sleep is not None:
            self.on_sleep(seconds)

    def pass_by(self, seconds: float) -> None:
        """Time goes by while nobody sleeps."""
        self.wall += seconds
        self.steady += seconds

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: only the wall clock goes on."""
        self.wall += seconds


class FaultyStorage:
    """A storage around another that fails by plan or by chance. Counts calls by verb.

    `plan` maps a verb ("save", "load", "stat", "list", "delete") to faults that its next calls take, in order: "ok",
    "fail" (nothing is done), "lost" (it is done, and the reply is lost), "cut" (a load gives half), "refused" (final),
    "behind" (a listing lacks the newest file). With `chance`, faults "fail", "lost" and "cut" also come at random, from
    `seed`. `on_call` is told each verb first: a slow storage lets a clock run there.
    """

    def __init__(self, inner: Storage, *, chance: float = 0.0, seed: int = 0) -> None:
        self.inner = inner
        self.plan: dict[str, list[str]] = {}
        self.calls: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.on_call: Callable[[str], None] | None = None
        self._chance = chance
        self._random = random.Random(seed)
        self._guard = threading.Lock()
        self._newest: dict[FileKind, str] = {}

    @property
    def location(self) -> str:
        return f"faulty {self.inner.location}"

    @property
    def connections(self) -> int:
        return self.inner.connections

    def create(self) -> None:
        self.inner.create()

    def save(self, file: File, data: Buffer) -> None:
        fault = self._next("save")
        self._before(fault, file)
        self.inner.save(file, data)
        self._newest[file.kind] = file.name
        self._after(fault, file)

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        fault = self._next("load")
        self._before(fault, file)
        data = self.inner.load(file, offset, length)
        if fault == "cut":
            raise StorageError(f"{file}: the connection ended after {len(data) // 2} bytes", retryable=True)
        if fault == "bad" and data:
            return bytes([data[0] ^ 1]) + data[1:]
        self._after(fault, file)
        return data

    def stat(self, file: File) -> int:
        fault = self._next("stat")
        self._before(fault, file)
        size = self.inner.stat(file)
        self._after(fault, file)
        return size

    def list(self, kind: FileKind) -> Iterator[Listed]:
        fault = self._next("list")
        self._before(fault, kind)
        for number, listed in enumerate(self.inner.list(kind)):
            if fault == "behind" and listed.name == self._newest.get(kind):
                continue
            if fault == "cut" and number:
                raise StorageError(f"the listing of {kind} ended early", retryable=True)
            yield listed
        self._after(fault, kind)

    def delete(self, file: File) -> None:
        fault = self._next("delete")
        self._before(fault, file)
        self.inner.delete(file)
        self._after(fault, file)

    def close(self) -> None:
        self.inner.close()

    def _next(self, verb: str) -> str:
        if self.on_call is not None:
            self.on_call(verb)
        with self._guard:
            self.calls[verb] += 1
            planned = self.plan.get(verb)
            fault = planned.pop(0) if planned else "ok"
            if not planned and fault == "ok" and self._random.random() < self._chance:
                fault = self._random.choice(["fail", "lost", "cut"])
            if fault != "ok":
                self.faults[fault] += 1
            return fault

    @staticmethod
    def _before(fault: str, what: object) -> None:
        if fault == "fail":
            raise StorageError(f"{what}: no connection", retryable=True)
        if fault == "refused":
            raise StorageError(f"{what}: refused", ambiguous=True)
        if fault == "final":
            raise StorageError(f"{what}: refused for good")

    @staticmethod
    def _after(fault: str, what: object) -> None:
        if fault == "lost":
            raise StorageError(f"{what}: the reply was lost", retryable=True, ambiguous=True)
