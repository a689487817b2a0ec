"""Damaged repositories are mended as restic mends them, whenever it is stopped, and no more is removed than must be."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lowtide_engine.repair_index import repair_index
from lowtide_engine.repair_packs import repair_packs
from lowtide_engine.repair_snapshots import repair_snapshots
from lowtide_engine.storage import File, FileKind, Storage
from lowtide_engine.storage.local import LocalStorage
from tests.conformance.actors import Lowtide, Restic
from tests.conformance.pruning import FOREVER, Watching, exclusive, files, storage_at, write_source
from tests.conformance.quick import facts, killed_at_each_change, make_repository, twin
from tests.conformance.trees import make_plain_tree

pytestmark = pytest.mark.oracle
Unpack = Callable[[str], Path]


@pytest.fixture(scope="module")
def template(restic_program: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three snapshots, each with packs and an index file of its own."""
    folder = tmp_path_factory.mktemp("repair")
    make_repository(folder / "repository")
    restic = Restic([restic_program], str(folder / "repository"), {"RESTIC_CACHE_DIR": str(folder / "cache")})
    make_plain_tree(folder / "source", large=2_000_000)
    for number in range(3):
        write_source(folder / "source", seed=number, names=range(number * 2, number * 2 + 3))
        restic.backup("source", cwd=folder)
    return folder / "repository"


@pytest.fixture
def repository(template: Path, place: str) -> Path:
    shutil.copytree(template, place)
    return Path(place)


def packs_of(repository: Path) -> list[Path]:
    """The packs, the largest first."""
    return sorted(repository.glob("data/*/*"), key=lambda path: -path.stat().st_size)


def spoil(path: Path, *positions: int, cut: int = 0) -> None:
    """Flip a bit at each position, and cut off so many bytes."""
    data = bytearray(path.read_bytes())
    for position in positions:
        data[position] ^= 1
    path.chmod(0o600)
    path.write_bytes(data[: len(data) - cut])


def tree_packs(repository: Path) -> list[str]:
    with exclusive(storage_at(repository)) as locked:
        index = locked.load_index().index
        return [pack for pack in index.packs() if index.has_tree_blobs(pack)]


DAMAGE: dict[str, Callable[[Path], None]] = {
    "an index file is missing": lambda repository: min((repository / "index").iterdir()).unlink(),
    "all index files are missing": lambda repository: shutil.rmtree(repository / "index"),
    "an index file is damaged": lambda repository: spoil(min((repository / "index").iterdir()), 100),
    "an index file is cut": lambda repository: spoil(min((repository / "index").iterdir()), cut=100),
    "an index file is empty": lambda repository: min((repository / "index").iterdir()).write_bytes(b""),
    "a pack is missing": lambda repository: packs_of(repository)[0].unlink(),
    "a pack is cut": lambda repository: spoil(packs_of(repository)[0], cut=100),
    "a pack is empty": lambda repository: spoil(packs_of(repository)[1], cut=packs_of(repository)[1].stat().st_size),
    "nothing": lambda repository: None,
}


def named(restic: Restic) -> set[str]:
    return set(restic.run("list", "blobs", "--no-cache").out.splitlines())


@pytest.mark.parametrize("options", [[], ["--read-all-packs"]], ids=["", "all"])
@pytest.mark.parametrize("case", DAMAGE)
def test_the_index_names_what_restic_would_name(
    case: str, options: list[str], repository: Path, restic: Restic, lowtide: Lowtide
) -> None:
    DAMAGE[case](repository)
    (repository / "index").mkdir(exist_ok=True)
    before = {path for path in files(repository) if path.startswith("data")}
    theirs, ours = twin(restic, lowtide)

    theirs.run("repair", "index", *options)
    ours.run("repair", "index", *options)

    assert named(restic) == named(theirs)
    assert {path for path in files(repository) if path.startswith("data")} == before
    lost = case.startswith("a pack")
    restic.run("check", "--no-cache", code=1 if lost else 0)
    if not lost:
        lowtide.run("check", "--read-data")
    again = files(repository)
    lowtide.run("repair", "index")
    assert files(repository) == again


@pytest.mark.parametrize("name", ["repo-index-missing", "repo-index-missing-blob", "repo-unused-data-missing"])
def test_fixtures_get_an_index_that_restic_finds_right(
    name: str, fixture: Unpack, restic: Restic, lowtide: Lowtide
) -> None:
    unpacked = next(path for path in fixture(f"restic/{name}").iterdir() if path.is_dir())
    for actor in (restic, lowtide):
        actor.repository = str(unpacked)
        actor.environment["RESTIC_PASSWORD"] = "geheim"

    lowtide.run("repair", "index")

    restic.run("check", "--no-cache", "--read-data")


def test_what_packs_hold_is_written_as_they_are_read_and_not_kept(
    repository: Path, restic: Restic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowtide_engine.packing.INDEX_BLOBS", 1)
    before, packs = named(restic), packs_of(repository)
    shutil.rmtree(repository / "index")
    (repository / "index").mkdir()
    written: list[int] = []
    watching = Watching(lambda progress: written.append(len(list((repository / "index").iterdir()))))

    with exclusive(storage_at(repository)) as locked:
        repair = repair_index(locked, watching, FOREVER)

    assert written == list(range(len(packs)))
    assert (repair.written, len(repair.added)) == (len(packs), len(packs))
    assert named(restic) == before
    restic.run("check", "--no-cache")


def test_an_index_repair_that_is_killed_anywhere_loses_nothing(repository: Path) -> None:
    lost, *_, kept = sorted((repository / "index").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    with exclusive(storage_at(repository)) as locked:
        index = locked.load_index().index
        vanished = next(pack for pack in index.packs() if index.index_files_of(pack) == [kept.name])
    lost.unlink()
    (repository / "data" / vanished[:2] / vanished).unlink()

    def work(storage: Storage) -> None:
        with exclusive(storage) as locked:
            repair_index(locked, Watching(), FOREVER)

    def judge() -> None:
        return None

    assert killed_at_each_change(repository, work, judge, damaged=True) >= 3
    with exclusive(storage_at(repository)) as locked:
        assert set(locked.load_index().index.packs()) == {path.name for path in packs_of(repository)}


@pytest.mark.parametrize("kind", ["data", "tree"])
def test_what_can_be_read_of_a_pack_is_saved(
    kind: str, repository: Path, restic: Restic, lowtide: Lowtide, tmp_path: Path
) -> None:
    trees = tree_packs(repository)
    damaged = next(path for path in packs_of(repository) if (path.name in trees) == (kind == "tree"))
    spoil(damaged, 50)
    theirs, ours = twin(restic, lowtide)
    folders = [tmp_path / "theirs", tmp_path / "ours"]
    for folder, actor in zip(folders, (theirs, ours), strict=True):
        folder.mkdir()
        actor.run("repair", "packs", damaged.name, cwd=folder)

    assert named(restic) == named(theirs)
    assert damaged.name not in restic.list_ids("packs")
    assert (folders[1] / f"pack-{damaged.name}").read_bytes() == (folders[0] / f"pack-{damaged.name}").read_bytes()
    restic.run("check", "--no-cache", code=1)
    lowtide.run("repair", "snapshots", "--forget")
    restic.run("check", "--no-cache", "--read-data")


def test_a_pack_that_is_missing_or_no_pack_is_told(repository: Path, lowtide: Lowtide, tmp_path: Path) -> None:
    before = files(repository)

    assert "repair index" in lowtide.run("repair", "packs", "a" * 64, code=1, cwd=tmp_path).err
    lowtide.run("repair", "packs", "abcd", code=1, cwd=tmp_path)

    assert files(repository) == before


def test_a_pack_goes_once_its_copy_is_on_the_disk(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = packs_of(repository)[0]
    spoil(damaged, 50)
    copy = tmp_path / f"pack-{damaged.name}"
    copy.with_name(f"{copy.name}-tmp-killed").write_bytes(damaged.read_bytes()[:1000])
    steps: list[str] = []
    fsync, rename, delete = os.fsync, os.rename, LocalStorage.delete

    def note_fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path == tmp_path or path.parent == tmp_path:
            steps.append("sync folder" if path == tmp_path else "sync file")
        fsync(descriptor)

    def note_rename(source: str, target: Path) -> None:
        if target == copy:
            steps.append("rename")
        rename(source, target)

    def note_delete(storage: LocalStorage, file: File) -> None:
        if file.kind is FileKind.DATA:
            steps.append("delete")
        delete(storage, file)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    monkeypatch.setattr(LocalStorage, "delete", note_delete)
    with exclusive(storage_at(repository)) as locked:
        repair_packs(locked, [damaged.name], tmp_path, Watching(), FOREVER)

    assert steps == ["sync file", "rename", "sync folder", "delete"]


@pytest.mark.parametrize("kept", ["half of it", "all of it"])
def test_what_an_earlier_repair_left_is_kept_and_keeps_nothing_from_its_end(
    kept: str, repository: Path, lowtide: Lowtide, tmp_path: Path
) -> None:
    damaged = packs_of(repository)[0]
    spoil(damaged, 50)
    data = damaged.read_bytes()
    left = data if kept == "all of it" else data[:1000]
    copy = tmp_path / f"pack-{damaged.name}"
    copy.write_bytes(left)

    ran = lowtide.run("repair", "packs", damaged.name, cwd=tmp_path)

    assert copy.read_bytes() == left
    assert not damaged.exists()
    other = copy.with_name(f"{copy.name}.2")
    assert [path.read_bytes() for path in [other] if path.exists()] == ([] if left == data else [data])
    assert (other.name in ran.err) == (left != data)


def test_a_pack_repair_that_is_killed_anywhere_loses_nothing(repository: Path, tmp_path: Path) -> None:
    damaged = packs_of(repository)[0]
    with exclusive(storage_at(repository)) as locked:
        index = locked.load_index().index
        entries = index.pack_entries(damaged.name)
        expected = {(e.kind, e.blob) for pack in index.packs() for e in index.pack_entries(pack)}
    first = min(entries, key=lambda entry: entry.offset)
    spoil(damaged, 50)
    expected -= {(first.kind, first.blob)}

    def work(storage: Storage) -> None:
        with exclusive(storage) as locked:
            if damaged.exists():
                repair_packs(locked, [damaged.name], tmp_path, Watching(), FOREVER, pack_size=1)

    def judge() -> None:
        with exclusive(storage_at(repository)) as locked:
            indexed = locked.load_index()
            for kind, blob in expected:
                assert indexed.load_blob(kind, blob) is not None

    assert killed_at_each_change(repository, work, judge, damaged=True) > len(entries)


@pytest.mark.parametrize("options", [[], ["--forget"], ["--dry-run"], ["--forget", "latest"]], ids=" ".join)
@pytest.mark.parametrize("kind", ["data", "tree"])
def test_snapshots_without_what_is_lost_are_those_of_restic(
    kind: str, options: list[str], repository: Path, restic: Restic, lowtide: Lowtide
) -> None:
    trees = tree_packs(repository)
    roots = {snapshot["tree"] for snapshot in restic.snapshots()}
    with exclusive(storage_at(repository)) as locked:
        index = locked.load_index().index
        rootless = [p for p in index.packs() if not roots & {entry.blob for entry in index.pack_entries(p)}]
    if kind == "data":
        next(path for path in packs_of(repository) if path.name in rootless).unlink()
    else:
        # Only what is not the root: restic would remove a snapshot of which nothing can be read.
        spoil_trees(repository, trees, roots)
    restic.run("repair", "index", "--no-cache")
    theirs, ours = twin(restic, lowtide)
    before = facts(theirs.snapshots())

    theirs.run("repair", "snapshots", "--no-cache", *options)
    ours.run("repair", "snapshots", "--no-cache", *options)

    expected = facts(theirs.snapshots())
    found = facts(restic.snapshots())
    partial = [one for one in found if "lowtide:partial" in one.get("tags", [])]
    assert len(partial) == len([one for one in expected if one not in before])
    assert partial or options in (["--dry-run"], ["--forget", "latest"])
    for one in found:
        one["tags"] = [tag for tag in one.get("tags", []) if tag != "lowtide:partial"]
    for one in expected:
        one["tags"] = one.get("tags", [])
    assert found == expected
    if options == ["--forget"]:
        restic.run("check", "--no-cache", "--read-data")
        assert "0 snapshots modified" in lowtide.run("repair", "snapshots").out


def spoil_trees(repository: Path, trees: list[str], roots: set[str]) -> None:
    """Take one tree that is no root out of the repository: its pack is written anew without it.

    The longest one: a lost tree of an empty folder is mended by the same tree, and no snapshot changes.
    """
    with exclusive(storage_at(repository)) as locked:
        index = locked.load_index().index
        for pack in trees:
            entries = [entry for entry in index.pack_entries(pack) if entry.blob not in roots]
            if not entries:
                continue
            path = repository / "data" / pack[:2] / pack
            spoil(path, max(entries, key=lambda entry: entry.length).offset + 20)
            break
    with exclusive(storage_at(repository)) as locked:
        repair_packs(locked, [pack], repository.parent, Watching(), FOREVER)


def test_a_lost_tree_of_an_empty_folder_is_stored_again_although_no_snapshot_changes(
    repository: Path, restic: Restic, lowtide: Lowtide
) -> None:
    empty = hashlib.sha256(b'{"nodes":[]}\n').hexdigest()
    with exclusive(storage_at(repository)) as locked:
        index = locked.load_index().index
        pack, lost = next((p, e) for p in index.packs() for e in index.pack_entries(p) if e.blob == empty)
    spoil(repository / "data" / pack[:2] / pack, lost.offset + 20)
    with exclusive(storage_at(repository)) as locked:
        repair_packs(locked, [pack], repository.parent, Watching(), FOREVER)
    restic.run("check", "--no-cache", code=1)
    before = restic.list_ids("snapshots")

    lowtide.run("repair", "snapshots", "--forget")

    assert restic.list_ids("snapshots") == before
    restic.run("check", "--no-cache", "--read-data")


def test_a_snapshot_of_which_nothing_can_be_read_stays_unless_it_is_to_be_forgotten(
    repository: Path, restic: Restic, lowtide: Lowtide
) -> None:
    for pack in tree_packs(repository):
        (repository / "data" / pack[:2] / pack).unlink()
    restic.run("repair", "index", "--no-cache")
    before = restic.list_ids("snapshots")

    ran = lowtide.run("repair", "snapshots", "--json", "--no-cache")
    assert len(ran.messages("unreadable")) == 3
    assert restic.list_ids("snapshots") == before

    lowtide.run("repair", "snapshots", "--forget", "--no-cache")
    assert restic.list_ids("snapshots") == set()


def test_a_repair_of_snapshots_that_is_killed_anywhere_loses_none(repository: Path) -> None:
    packs_of(repository)[0].unlink()
    with exclusive(storage_at(repository)) as locked:
        repair_index(locked, Watching(), FOREVER)
        originals = {snapshot.id for snapshot in locked.snapshots()}

    def work(storage: Storage) -> None:
        with exclusive(storage) as locked:
            found = locked.snapshots()
            for _ in repair_snapshots(locked, found, found, Watching(), FOREVER, forget=True):
                pass

    def judge() -> None:
        with exclusive(storage_at(repository)) as locked:
            assert {snapshot.original or snapshot.id for snapshot in locked.snapshots()} == originals

    assert killed_at_each_change(repository, work, judge, damaged=True) >= 6
