"""Whatever fails on the way, behind retries a storage does what a dictionary does, and nothing that was
acknowledged is lost.
"""

from __future__ import annotations

import hashlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowtide_engine.errors import FileMissing, StorageError
from lowtide_engine.storage import File, FileKind, Listed, Storage
from lowtide_engine.storage.memory import MemoryStorage
from lowtide_engine.storage.retry import Retrying
from tests.fakes import FakeClock, FaultyStorage

CONTENTS = [str(number).encode() * (number + 1) for number in range(6)]
FILES = [File(FileKind.DATA, hashlib.sha256(data).hexdigest()) for data in CONTENTS]

steps = st.lists(st.tuples(st.sampled_from(["save", "delete", "load", "stat", "list"]), st.integers(0, 5)), max_size=40)


def outcome(storage: Storage, verb: str, number: int) -> object:
    """What one call gives, or the kind of its error."""
    file, data = FILES[number], CONTENTS[number]
    try:
        match verb:
            case "save":
                return storage.save(file, data)
            case "delete":
                return storage.delete(file)
            case "load":
                return storage.load(file)
            case "stat":
                return storage.stat(file)
            case _:
                return sorted(storage.list(FileKind.DATA))
    except FileMissing:
        return FileMissing


@given(steps, st.integers(0, 2**32), st.sampled_from([0.1, 0.5]))
@settings(max_examples=150, deadline=None)
def test_behind_retries_faults_are_invisible(calls: list[tuple[str, int]], seed: int, chance: float) -> None:
    model, inner = MemoryStorage(), MemoryStorage()
    storage = Retrying(FaultyStorage(inner, chance=chance, seed=seed), FakeClock())
    for verb, number in calls:
        expected = outcome(model, verb, number)
        got = outcome(storage, verb, number)
        # A deletion whose first reply was lost can't tell whether there was anything to delete.
        assert got == expected or (verb == "delete" and {got, expected} == {None, FileMissing})
    assert sorted(inner.list(FileKind.DATA)) == sorted(model.list(FileKind.DATA))


@given(st.integers(0, 2**32), st.lists(st.sampled_from(["ok", "fail", "lost", "final", "refused"]), max_size=30))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_was_acknowledged_is_there_and_whole(seed: int, faults: list[str]) -> None:
    inner = MemoryStorage()
    faulty = FaultyStorage(inner, seed=seed)
    faulty.plan = {"save": [*faults], "stat": [*faults[::2]]}
    storage = Retrying(faulty, FakeClock(), give_up_after=20)
    acknowledged = set()
    for file, data in zip(FILES, CONTENTS, strict=True):
        try:
            storage.save(file, data)
        except StorageError:
            continue
        acknowledged.add(Listed(file.name, len(data)))
    assert acknowledged <= set(inner.list(FileKind.DATA))
    for file, data in zip(FILES, CONTENTS, strict=True):
        if any(listed.name == file.name for listed in acknowledged):
            assert inner.load(file) == data
