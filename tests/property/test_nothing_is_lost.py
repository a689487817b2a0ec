"""A backup over a storage that fails at random: either there is a snapshot and all of it can be read, or there is
an error.
"""

from __future__ import annotations

import hashlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from lowtide_engine.errors import EngineError
from lowtide_engine.repository import (
    IndexedRepository,
    Instant,
    KdfParameters,
    Password,
    Repository,
    Snapshot,
    init_repository,
    open_repository,
)
from lowtide_engine.storage import FileKind
from lowtide_engine.storage.memory import MemoryStorage
from lowtide_engine.storage.retry import Retrying
from tests.fakes import FakeClock, FaultyStorage

PASSWORD = Password("geheim")
CHEAP = KdfParameters(128, 1, 1)
TREES = [b'{"nodes":[]}\n' + b" " * number for number in range(4)]
IDS = [hashlib.sha256(tree).hexdigest() for tree in TREES]


def back_up(repository: Repository) -> Snapshot:
    """One pack and one index for each tree, then the snapshot, as a run of the kernel would have it."""
    with repository.locked(retry_for=600) as locked:
        indexed = locked.load_index()
        for tree, name in zip(TREES, IDS, strict=True):
            store(indexed, tree, name)
        return indexed.save_snapshot(Snapshot(Instant.parse("2024-01-01T00:00:00Z"), IDS[0], ("/data",)))


def store(indexed: IndexedRepository, tree: bytes, name: str) -> None:
    sealed = indexed.repository.kernel_key.seal(tree)
    pack = hashlib.sha256(sealed).hexdigest()
    indexed.save_pack(pack, sealed, "tree")
    blob = {"id": name, "type": "tree", "offset": 0, "length": len(sealed)}
    indexed.save_index(json.dumps({"packs": [{"id": pack, "blobs": [blob]}]}).encode())


faults = st.lists(st.sampled_from(["ok"] * 4 + ["fail", "lost", "lost", "refused", "final"]), max_size=40)


@given(seed=st.integers(0, 2**32), chance=st.sampled_from([0.0, 0.2, 0.5]), saves=faults, lists=faults, deletes=faults)
@settings(max_examples=80, deadline=None)
def test_a_backup_is_whole_or_failed(
    seed: int, chance: float, saves: list[str], lists: list[str], deletes: list[str]
) -> None:
    memory = MemoryStorage()
    init_repository(memory, PASSWORD, clock=FakeClock(), kdf=CHEAP).close()
    faulty = FaultyStorage(memory, chance=chance, seed=seed)
    clock = FakeClock()
    try:
        repository = open_repository(Retrying(faulty, clock), PASSWORD, clock=clock)
        faulty.plan = {"save": saves, "list": lists, "delete": deletes}
        stored = back_up(repository)
    except EngineError:
        stored = None

    judge = open_repository(memory, PASSWORD, clock=FakeClock())
    snapshots = judge.unlocked().snapshots()
    indexed = judge.unlocked().load_index()
    named = set(indexed.index.packs())
    assert named <= {listed.name for listed in memory.list(FileKind.DATA)}, "no index names a pack that is not stored"
    if stored is not None:
        assert [snapshot.id for snapshot in snapshots] == [stored.id]
    for _ in snapshots:
        assert [indexed.load_blob("tree", name) for name in IDS] == TREES
