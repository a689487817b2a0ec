"""A prune leaves what restic calls whole, whenever it is stopped, and touches nothing where something is wrong."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lowtide_engine.errors import AppendOnly, Interrupted, LockLost, RepositoryDamaged, StorageError
from lowtide_engine.prune import NoSnapshots, RepositoryBusy
from lowtide_engine.prune_plan import PruneOptions
from lowtide_engine.repository import KdfParameters, Password, init_repository
from lowtide_engine.storage import CONFIG, File, FileKind, SystemClock
from tests.conformance.actors import PASSWORD, Lowtide, Restic
from tests.conformance.pruning import (
    CLEAN,
    DyingStorage,
    Watching,
    check_at,
    exclusive,
    files,
    fill,
    opened,
    prune_at,
    storage_at,
)
from tests.conformance.trees import Entry, describe, differences

pytestmark = pytest.mark.oracle
CHEAP = KdfParameters(128, 1, 1)
Unpack = Callable[[str], Path]


@pytest.fixture(scope="module")
def template(restic_program: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prune")
    init_repository(storage_at(folder / "repository"), Password(PASSWORD), clock=SystemClock(), kdf=CHEAP).close()
    restic = Restic([restic_program], str(folder / "repository"))
    fill(restic, folder)
    return folder / "repository"


@pytest.fixture
def repository(template: Path, place: str) -> Path:
    """A copy of the repository with something of everything; `restic` and `lowtide` are at the same place."""
    shutil.copytree(template, place)
    return Path(place)


def assert_whole(restic: Restic, *, unused: bool = False) -> None:
    more = ["--check-unused"] if unused else []
    restic.run("check", "--no-cache", "--read-data", *more)


def restored(restic: Restic, target: Path) -> list[dict[bytes, Entry]]:
    found = []
    for snapshot in sorted(restic.snapshots(), key=lambda one: str(one["id"])):
        folder = target / str(snapshot["short_id"])
        restic.run("restore", "--no-cache", snapshot["id"], "--target", folder)
        tree = describe(folder)
        del tree[b"."]
        found.append(tree)
    return found


def test_every_snapshot_restores_as_before_and_nothing_unused_is_left(
    repository: Path, restic: Restic, tmp_path: Path
) -> None:
    before = restored(restic, tmp_path / "before")

    pruned = prune_at(repository)

    assert pruned.plan.unindexed
    assert pruned.plan.remove
    assert pruned.plan.repack
    assert pruned.written > 0
    assert_whole(restic, unused=True)
    after = restored(restic, tmp_path / "after")
    assert len(before) == 2
    for was, now in zip(before, after, strict=True):
        assert differences(was, now) == []
    sizes = sum(path.stat().st_size for path in (repository / "data").rglob("*") if path.is_file())
    assert sizes == pytest.approx(pruned.plan.remaining, abs=2000)  # other headers
    assert prune_at(repository).plan.idle


def test_restic_and_lowtide_find_nothing_to_do_after_each_other(
    repository: Path, restic: Restic, tmp_path: Path
) -> None:
    shutil.copytree(repository, tmp_path / "other")
    restic.run("prune", "--no-cache", "--max-unused", "0")
    ours = prune_at(repository, PruneOptions(max_unused_share=0.0))
    prune_at(tmp_path / "other", PruneOptions(max_unused_share=0.0))
    before = files(tmp_path / "other")

    restic.repository = str(tmp_path / "other")
    restic.run("prune", "--no-cache", "--max-unused", "0")

    assert ours.plan.idle
    assert files(tmp_path / "other") == before


def test_killed_at_any_change_it_leaves_a_whole_repository(
    template: Path, place: str, restic: Restic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowtide_engine.packing.INDEX_PACKS", 2)
    expected = {one["id"] for one in Restic(restic.command, str(template)).snapshots()}
    changes = 0
    while True:
        shutil.copytree(template, place)
        dying = DyingStorage(storage_at(Path(place)), changes)
        try:
            prune_at(dying)
        except StorageError:
            assert dying.died
        assert check_at(Path(place))[1] == []
        assert_whole(restic)
        prune_at(Path(place))
        report, problems = check_at(Path(place), unused=True)
        assert problems == []
        assert report.snapshots == len(expected)
        assert prune_at(Path(place)).plan.idle
        shutil.rmtree(place)
        if not dying.died:
            break
        changes += 1
    assert changes > 12


def test_stopped_between_packs_it_keeps_what_it_stored_and_goes_on(
    repository: Path, restic: Restic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowtide_engine.unpacking.RANGE_BYTES", 1)
    one_blob_each = replace(CLEAN, pack_size=1)
    whole = prune_at(repository, one_blob_each, dry_run=True).plan
    stop = threading.Event()
    before = set(files(repository))

    def stop_once_something_is_stored(_: object) -> None:
        if set(files(repository)) - before:
            stop.set()

    with pytest.raises(Interrupted):
        prune_at(repository, one_blob_each, stop=stop, reporter=Watching(stop_once_something_is_stored))

    stopped = set(files(repository))
    new = {name for name in stopped - before if name.startswith("data/")}
    assert new
    assert {name for name in before if name.startswith("index/")} <= stopped
    assert_whole(restic)
    again = prune_at(repository, one_blob_each)
    assert not again.plan.unindexed
    assert new <= set(files(repository))
    assert 0 < again.written < whole.repack_size
    assert_whole(restic, unused=True)


def test_a_dry_run_changes_nothing_and_foretells(repository: Path) -> None:
    before = files(repository)

    foretold = prune_at(repository, dry_run=True)

    assert files(repository) == before
    assert prune_at(repository).plan == foretold.plan


def test_limits_are_kept(repository: Path, restic: Restic) -> None:
    pruned = prune_at(repository, PruneOptions(max_repack_size=0))

    assert pruned.plan.repack == []
    assert pruned.plan.remove
    assert pruned.plan.unused_after > 0
    assert_whole(restic)


MENDED = ["repo-duplicates", "repo-unused-data-missing", "repo-unreferenced-data", "repo-obsolete-index", "small-repo"]
REFUSED = ["repo-index-missing", "repo-index-missing-blob", "repo-data-missing"]


@pytest.mark.parametrize("name", MENDED)
def test_what_restic_mends_is_mended(name: str, fixture: Unpack, restic: Restic) -> None:
    place = fixture(f"restic/{name}") / "repo"
    restic.repository, restic.environment = str(place), {"RESTIC_PASSWORD": "geheim"}

    prune_at(place, PruneOptions(), password="geheim")

    assert_whole(restic, unused=True)
    assert check_at(place, unused=True, password="geheim")[1] == []
    assert prune_at(place, PruneOptions(), password="geheim").plan.idle


@pytest.mark.parametrize("name", REFUSED)
def test_what_restic_refuses_is_left_as_it_is(name: str, fixture: Unpack) -> None:
    place = fixture(f"restic/{name}") / "repo"
    before = files(place)

    with pytest.raises(RepositoryDamaged, match="nothing was removed"):
        prune_at(place, PruneOptions(), password="geheim")

    assert files(place) == before


def test_what_rustic_wrote_is_pruned(fixture: Unpack, restic: Restic) -> None:
    [place] = {path.parent for path in fixture("rustic/restic-repo").rglob("config")}
    restic.repository, restic.environment = str(place), {"RESTIC_PASSWORD": "restic"}
    with exclusive(storage_at(place), "restic") as locked:
        locked.delete_snapshot(locked.snapshots()[0].id)

    prune_at(place, CLEAN, password="restic")

    assert_whole(restic, unused=True)
    assert len(restic.snapshots()) == 1


@pytest.mark.parametrize("kind", [FileKind.SNAPSHOT, FileKind.INDEX, FileKind.DATA])
def test_what_cannot_be_read_stops_it_before_anything_is_removed(kind: FileKind, repository: Path) -> None:
    """Of data, every tree: a snapshot that stays has one of them."""
    storage = storage_at(repository)
    for listed in list(storage.list(kind)):
        file = File(kind, listed.name)
        if kind is FileKind.DATA and not _holds_trees(repository, listed.name):
            continue
        content = bytearray(storage.load(file))
        for place in range(0, len(content), 32):
            content[place] ^= 1
        storage.delete(file)
        storage.save(file, content)
    before = files(repository)

    with pytest.raises(RepositoryDamaged):
        prune_at(repository)

    assert files(repository) == before


def _holds_trees(repository: Path, pack: str) -> bool:
    with opened(storage_at(repository)) as here:
        index = here.unlocked().load_index().index
        return pack in index.packs() and index.has_tree_blobs(pack)


def test_a_blob_that_is_damaged_is_found_before_its_pack_goes(repository: Path) -> None:
    plan = prune_at(repository, dry_run=True).plan
    storage = storage_at(repository)
    for pack in plan.repack:
        if not _holds_trees(repository, pack):
            content = bytearray(storage.load(File(FileKind.DATA, pack)))
            content[:-200] = bytes(len(content) - 200)
            storage.delete(File(FileKind.DATA, pack))
            storage.save(File(FileKind.DATA, pack), content)
    indexes = {name for name in files(repository) if name.startswith("index/")}

    with pytest.raises(RepositoryDamaged, match="can't be read from any pack"):
        prune_at(repository)

    assert indexes <= set(files(repository))
    packs = {name.rpartition("/")[2] for name in files(repository)}
    assert {*plan.repack, *plan.remove} <= packs


def test_a_repository_without_snapshots_is_emptied_only_where_that_is_said(repository: Path, restic: Restic) -> None:
    with exclusive(storage_at(repository)) as locked:
        for snapshot in locked.snapshots():
            locked.delete_snapshot(snapshot.id)
    before = files(repository)

    with pytest.raises(NoSnapshots):
        prune_at(repository)
    assert files(repository) == before

    prune_at(repository, allow_empty=True)
    assert [name for name in files(repository) if name.startswith(("data/", "index/"))] == []
    assert_whole(restic)


def test_append_only_repositories_are_refused(repository: Path) -> None:
    storage = storage_at(repository)
    with opened(storage) as here:
        config = json.loads(here._master.unseal(storage.load(CONFIG)))
        sealed = here._master.seal(json.dumps(config | {"append_only": True}).encode())
    storage.delete(CONFIG)
    storage.save(CONFIG, sealed)
    before = files(repository)

    with pytest.raises(AppendOnly):
        prune_at(repository)

    assert files(repository) == before


def test_somebody_who_writes_in_spite_of_the_lock_stops_it(repository: Path, restic: Restic) -> None:
    """A backup whose lock was removed while its machine slept: what it publishes may name what would be deleted."""
    storage = storage_at(repository)
    index = next(storage.list(FileKind.INDEX)).name
    content = storage.load(File(FileKind.INDEX, index))

    class Sleeper(DyingStorage):
        def save(self, file: File, data: object) -> None:
            super().save(file, data)  # type: ignore[arg-type]
            if file.kind is FileKind.DATA and not self.woken:
                self.woken = True
                with opened(storage) as here:
                    storage.save(
                        *_published(here.files.encode(here.files.decode(File(FileKind.INDEX, index), content)))
                    )

        woken = False

    old = {name for name in files(repository) if name.startswith("index/")}
    with pytest.raises(RepositoryBusy):
        prune_at(Sleeper(storage, 10_000))

    assert old <= set(files(repository))
    assert_whole(restic)


def _published(sealed: bytes) -> tuple[File, bytes]:
    import hashlib

    return File(FileKind.INDEX, hashlib.sha256(sealed).hexdigest()), sealed


def test_a_lost_lock_ends_it_before_the_next_deletion(repository: Path, restic: Restic) -> None:
    def remove_locks(_: object) -> None:
        for lock in (repository / "locks").iterdir():
            lock.unlink()

    before = files(repository)

    with pytest.raises(LockLost):
        prune_at(repository, reporter=Watching(remove_locks))

    assert files(repository) == before
    assert_whole(restic)


def test_it_needs_the_repository_for_itself(repository: Path, lowtide: Lowtide) -> None:
    with opened(storage_at(repository)) as here, here.locked():
        lowtide.run("prune", code=11)


def test_the_command_says_what_it_did(repository: Path, lowtide: Lowtide, restic: Restic) -> None:
    plan = prune_at(repository, PruneOptions(), dry_run=True).plan

    foretold = lowtide.run("prune", "--json", "--dry-run").summary()
    summary = lowtide.run("prune", "--json").summary()

    assert foretold | {"dry_run": False} == summary | {"bytes_written": 0, "index_files_written": 0}
    assert summary["bytes_freed"] == plan.freed
    assert summary["packs_removed"] == len(plan.remove)
    assert summary["packs_unindexed"] == 1
    assert summary["bytes_written"] > 0
    assert "nothing to do" in lowtide.run("prune").out
    assert_whole(restic)


def test_forgetting_prunes_where_it_is_asked_to(repository: Path, lowtide: Lowtide, restic: Restic) -> None:
    before = files(repository)
    rules = ("forget", "--keep-last", "1", "--prune", "--max-unused", "0")

    lowtide.run(*rules, "--dry-run")
    assert files(repository) == before
    lowtide.run(*rules)

    assert len(restic.snapshots()) == 1
    assert_whole(restic, unused=True)
    after = files(repository)
    lowtide.run(*rules)
    assert files(repository) == after


BAD_OPTIONS = [
    ["--max-unused", "100%"], ["--max-unused", "much"], ["--max-repack-size", "x"],
    ["--repack-smaller-than", "64M"], ["--repack-uncompressed", "--compression", "off"],
]  # fmt: skip


def test_options_that_make_no_sense_are_refused(lowtide: Lowtide) -> None:
    for options in BAD_OPTIONS:
        lowtide.run("prune", *options, code=1)
        assert lowtide.result is not None
        assert lowtide.result.reason == "BadArguments", options
