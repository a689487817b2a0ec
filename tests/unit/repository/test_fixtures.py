"""Repositories that restic (0.1 to 0.17) and rustic wrote open here, to the last index entry."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lowtide_engine.errors import WrongPassword
from lowtide_engine.repository import Password, open_repository
from lowtide_engine.storage import FileKind, SystemClock
from lowtide_engine.storage.local import LocalStorage
from tests.fixtures import password_of, unpack

# name: version, and as restic 0.19 lists them: snapshots, index files, packs, distinct blobs in the index; root trees
# that are there
CASES = {
    "restic/small-repo": (1, 4, 1, 3, 10, 4),
    "restic/copy-unstable-json": (1, 1, 1, 1, 2, 1),
    "restic/repo-duplicates": (1, 1, 2, 4, 10, 1),
    "restic/repo-index-missing": (1, 2, 1, 4, 5, 1),
    "restic/repo-index-missing-blob": (1, 1, 1, 3, 4, 1),
    "restic/repo-data-missing": (1, 1, 1, 1, 5, 1),
    "restic/repo-unused-data-missing": (1, 1, 4, 3, 15, 1),
    "restic/repo-unreferenced-data": (1, 1, 1, 3, 5, 1),
    "restic/repo-obsolete-index": (1, 1, 2, 2, 5, 1),
    "restic/repo-restore-permissions-test": (1, 1, 1, 2, 5, 1),
    "restic/repo-layout-default": (1, 3, 2, 3, 6, 3),
    "rustic/restic-repo": (2, 2, 2, 3, 60, 2),
    "rustic/rustic-copy-repo": (2, 0, 0, 0, 0, 0),
}


def count(storage: LocalStorage, kind: FileKind) -> int:
    return len([*storage.list(kind)])


@pytest.mark.parametrize("name", CASES)
def test_a_repository_of_another_program_opens(name: str, tmp_path: Path) -> None:
    storage = LocalStorage(unpack(name, tmp_path))
    with open_repository(storage, Password(password_of(name)), clock=SystemClock()) as repository:
        unlocked = repository.unlocked()
        snapshots = unlocked.snapshots()
        indexed = unlocked.load_index()
        readable = [s for s in snapshots if indexed.index.contains("tree", s.tree)]
        for snapshot in readable:
            assert indexed.load_blob("tree", snapshot.tree).startswith(b'{"nodes":[')
        found = (
            repository.config.version,
            len(snapshots),
            count(storage, FileKind.INDEX),
            count(storage, FileKind.DATA),
            sum(len(indexed.index.pack_entries(pack)) for pack in indexed.index.packs()),
            len(readable),
        )
    assert found == CASES[name]
    repository.config.refuse_reducible()


@pytest.mark.parametrize("name", ["restic/small-repo", "rustic/restic-repo"])
def test_another_password_doesnt_open_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(WrongPassword):
        open_repository(LocalStorage(unpack(name, tmp_path)), Password("falsch"), clock=SystemClock())


def test_what_others_wrote_is_written_on_in_their_modes(tmp_path: Path) -> None:
    """A repository that lacks our 256 folders, and whose folders were made by another program."""
    root = unpack("restic/repo-layout-default", tmp_path)
    (root / "config").chmod(0o400)
    for folder in (root / "data").iterdir():
        if not any(folder.iterdir()):
            shutil.rmtree(folder)
    storage = LocalStorage(root)
    with open_repository(storage, Password("geheim"), clock=SystemClock()) as repository, repository.locked() as locked:
        indexed = locked.load_index()
        data = repository.kernel_key.seal(b"x")
        from lowtide_engine import _kernel

        indexed.save_pack(_kernel.sha256(data), data, "data")
        [snapshot, *_] = locked.snapshots()
        again = locked.save_snapshot(snapshot.retagged(["kept"]))
        assert again in locked.snapshots()
    assert count(storage, FileKind.LOCK) == 0
