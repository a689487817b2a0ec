"""Random histories of backups, forgetting and prunes, some of them killed, with blobs that are stored several times:
every snapshot that is left can be read whole, and in the end nothing is stored that none needs.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from lowtide_engine.backup import BackupRequest, back_up
from lowtide_engine.check import check
from lowtide_engine.errors import StorageError
from lowtide_engine.prune import prune
from lowtide_engine.prune_plan import PruneOptions
from lowtide_engine.repository import KdfParameters, Password, Repository, init_repository, open_repository
from lowtide_engine.storage import FileKind, Storage
from lowtide_engine.storage.base import File
from lowtide_engine.storage.memory import MemoryStorage
from lowtide_engine.subset import Subset
from tests.conformance.pruning import DyingStorage, Watching
from tests.fakes import FakeClock

PASSWORD = "geheim"
NEVER = threading.Event()
KINDS = (FileKind.DATA, FileKind.INDEX, FileKind.SNAPSHOT, FileKind.KEY)


def opened(storage: Storage) -> Repository:
    """With a clock that doesn't wait between two looks at the locks."""
    return open_repository(storage, Password(PASSWORD), clock=FakeClock())


class History:
    """A repository in memory and the folder that is backed up into it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.storage: Storage = MemoryStorage()
        init_repository(self.storage, Password(PASSWORD), clock=FakeClock(), kdf=KdfParameters(128, 1, 1)).close()

    def change(self) -> None:
        """Some files get other content, often one that was there before, and some go."""
        for number in range(8):
            path = self.folder / str(number % 3) / str(number)
            path.parent.mkdir(exist_ok=True, parents=True)
            chance = self.random.random()
            if chance < 0.4:
                path.write_bytes(random.Random(self.random.randrange(12)).randbytes(3000))
            elif chance < 0.5:
                path.unlink(missing_ok=True)

    def back_up(self, storage: Storage | None = None) -> None:
        with opened(storage or self.storage) as repository, repository.locked() as locked:
            back_up(locked, BackupRequest([bytes(self.folder)], host="h", force=True), Watching(), NEVER)

    def back_up_twice_at_once(self) -> None:
        """Two backups that don't see each other's index: what both store is there twice."""
        apart = MemoryStorage()
        for kind in KINDS:
            for listed in self.storage.list(kind):
                apart.save(File(kind, listed.name), self.storage.load(File(kind, listed.name)))
        apart.save(File(FileKind.CONFIG), self.storage.load(File(FileKind.CONFIG)))
        self.back_up()
        self.change()
        self.back_up(apart)
        for kind in KINDS:
            for listed in apart.list(kind):
                self.storage.save(File(kind, listed.name), apart.load(File(kind, listed.name)))

    def forget(self) -> None:
        with opened(self.storage) as repository, repository.locked(exclusive=True) as locked:
            snapshots = locked.snapshots()
            for snapshot in self.random.sample(snapshots, len(snapshots) // 3):
                locked.delete_snapshot(snapshot.id)

    def prune(self, *, whole: bool = False) -> None:
        """With any limits, and often killed on the way; or without limits and to its end."""
        options = PruneOptions(
            max_unused_share=self.random.choice([0.0, 0.05, 0.5, None]),
            max_repack_size=self.random.choice([None, None, 5000, 20000]),
            pack_size=self.random.choice([1, 4000, 20000]),
        )
        storage = DyingStorage(self.storage, 10_000 if whole else self.random.choice([2, 5, 9, 14, 10_000]))
        chosen = PruneOptions(max_unused_share=0.0, pack_size=4000) if whole else options
        try:
            with opened(storage) as repository, repository.locked(exclusive=True) as locked:
                prune(locked, chosen, Watching(), NEVER)
        except StorageError:
            assert storage.died

    def problems(self, *, unused: bool = False) -> list[str]:
        watching = Watching()
        with opened(self.storage) as repository, repository.locked(exclusive=True) as locked:
            check(locked, watching, NEVER, read_data=Subset(), check_unused=unused)
        return watching.problems

    def copies(self) -> set[int]:
        """How many times blobs are stored."""
        with opened(self.storage) as repository:
            index = repository.unlocked().load_index().index
        entries = [entry for pack in index.packs() for entry in index.pack_entries(pack)]
        return {len(index.locate(entry.kind, entry.blob)) for entry in entries}


@pytest.mark.parametrize("seed", range(25))
def test_no_history_loses_anything(seed: int, tmp_path: Path) -> None:
    history = History(seed, tmp_path)
    history.change()
    history.back_up()
    for _ in range(8):
        history.change()
        step = history.random.choice([history.back_up, history.back_up_twice_at_once, history.forget, history.prune])
        step()
        history.prune()
        assert history.problems() == []

    history.prune(whole=True)

    assert history.problems(unused=True) == []
    assert history.copies() == {1}
