"""What was forgotten by mistake is found again, and old repositories become new ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lowtide_engine.errors import EngineError, StorageError
from lowtide_engine.recover import recover
from lowtide_engine.storage import CONFIG, File, Storage
from tests.conformance.actors import Lowtide, Restic
from tests.conformance.pruning import FOREVER, DyingStorage, Watching, exclusive, opened, storage_at
from tests.conformance.quick import killed_at_each_change, make_repository, twin
from tests.conformance.trees import describe, make_plain_tree

if TYPE_CHECKING:
    from typing_extensions import Buffer

pytestmark = pytest.mark.oracle


@pytest.fixture
def forgotten(place: str, restic: Restic, tmp_path: Path) -> list[str]:
    """A repository with two snapshots that were forgotten, and one that is there; gives the trees of the two."""
    make_repository(place)
    ids = []
    for number in range(3):
        make_plain_tree(tmp_path / "source", seed=number, large=100_000)
        ids.append(restic.backup("source", cwd=tmp_path)["snapshot_id"])
        shutil.rmtree(tmp_path / "source")
    make_plain_tree(tmp_path / "source", seed=1, large=100_000)
    trees = {snapshot["id"]: str(snapshot["tree"]) for snapshot in restic.snapshots()}
    restic.run("forget", *ids[:2])
    return [trees[name] for name in ids[:2]]


def test_restic_recovers_the_same(forgotten: list[str], restic: Restic, lowtide: Lowtide, tmp_path: Path) -> None:
    theirs, ours = twin(restic, lowtide)
    # restic 0.19.1 takes the roots in a random order, and refuses its own tree where that isn't ascending.
    assert any(theirs.run("recover", code=None).code == 0 for _ in range(40))

    found = ours.run("recover", "--json").summary()

    assert found["roots"] == 2
    restic.run("check", "--read-data")
    for actor in (theirs, restic):
        paths = [node["path"] for node in actor.run("ls", "--json", "latest").messages("node")]
        assert [path for path in paths if path.count("/") == 1] == sorted(f"/{tree[:8]}" for tree in forgotten)
    assert [(one["tags"], one["paths"]) for one in restic.snapshots()[1:]] == [(["recovered"], ["/recover"])]
    restic.run("restore", f"latest:/{forgotten[1][:8]}", "--target", tmp_path / "back")
    files = [
        {path: entry.digest for path, entry in describe(folder).items()}
        for folder in (tmp_path / "source", tmp_path / "back" / "source")
    ]
    assert files[0] == files[1]
    restic.run("rewrite", "--exclude", "nothing", "latest")


def test_a_second_time_there_is_nothing_to_recover(forgotten: list[str], restic: Restic, lowtide: Lowtide) -> None:
    lowtide.run("recover")
    before = restic.list_ids("snapshots")

    assert lowtide.run("recover", "--json").summary() == {"message_type": "summary", "roots": 0}
    assert restic.list_ids("snapshots") == before


def test_a_missing_index_is_mended_first(forgotten: list[str], restic: Restic, lowtide: Lowtide, place: str) -> None:
    shutil.rmtree(Path(place) / "index")
    (Path(place) / "index").mkdir()

    lowtide.run("recover")

    restic.run("check", "--read-data")
    assert len(restic.snapshots()) == 2


def test_killed_at_any_change_it_leaves_a_whole_repository(forgotten: list[str], place: str) -> None:
    def work(storage: Storage) -> None:
        with exclusive(storage) as locked:
            recover(locked, "host", Watching(), FOREVER)

    def judge() -> None:
        return None

    assert killed_at_each_change(Path(place), work, judge) == 3
    with exclusive(storage_at(Path(place))) as locked:
        assert len(locked.snapshots()) == 2


def test_a_repository_of_version_1_becomes_one_of_version_2(
    restic: Restic, lowtide: Lowtide, place: str, tmp_path: Path
) -> None:
    make_repository(place, version=1)
    make_plain_tree(tmp_path / "source", large=100_000)
    lowtide.backup("source", cwd=tmp_path)
    assert "upgrade_repo_v2" in lowtide.run("migrate").out
    assert "upgrade_repo_v2" in restic.run("migrate").out

    lowtide.run("migrate", "upgrade_repo_v2")

    assert "no migrations found" in restic.run("migrate").out
    assert "nothing to do" in lowtide.run("migrate").out
    restic.run("check", "--read-data")
    lowtide.run("prune", "--repack-uncompressed")
    assert lowtide.backup("source", cwd=tmp_path)["data_added"] == 0
    restic.run("check", "--read-data")
    raw = restic.run("stats", "--mode", "raw-data", "--json").out
    assert "compression_ratio" in raw
    lowtide.run("migrate", "upgrade_repo_v2")
    lowtide.run("migrate", "unknown", code=1)


def test_a_damaged_repository_is_not_upgraded(lowtide: Lowtide, place: str, tmp_path: Path) -> None:
    make_repository(place, version=1)
    (tmp_path / "file").write_text("content")
    lowtide.backup("file", cwd=tmp_path)
    next(Path(place).glob("data/*/*")).unlink()

    lowtide.run("migrate", "upgrade_repo_v2", code=1)

    assert lowtide.run("cat", "config").out.count('"version": 1') == 1


class LosingConfig(DyingStorage):
    """A storage that loses the config while a new one is stored, and refuses so often to store one."""

    def __init__(self, inner: Storage, refused: int) -> None:
        super().__init__(inner, -1)
        self._refused = refused

    def save(self, file: File, data: Buffer) -> None:
        if file == CONFIG and self._refused:
            self._refused -= 1
            self._inner.delete(file)
            raise StorageError("no more room")
        super().save(file, data)


@pytest.mark.parametrize(("refused", "told"), [(1, "no more room"), (2, "nor the old one put back.*base64 -d")])
def test_the_old_config_is_put_back_where_the_new_one_can_not_be_stored(refused: int, told: str, place: str) -> None:
    make_repository(place, version=1)
    config = Path(place) / "config"
    before = config.read_bytes()

    with exclusive(LosingConfig(storage_at(Path(place)), refused)) as locked, pytest.raises(EngineError, match=told):
        locked.upgrade()

    assert refused == 2 or config.read_bytes() == before
    config.unlink(missing_ok=True)
    config.write_bytes(before)
    with opened(storage_at(Path(place))) as repository:
        assert repository.config.version == 1
