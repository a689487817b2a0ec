"""Rewritten snapshots are those that restic would have written, to the byte of each tree."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lowtide_engine.rewrite import RewriteRequest, rewrite
from lowtide_engine.storage import Storage
from tests.conformance.actors import Lowtide, Restic
from tests.conformance.pruning import FOREVER, exclusive, storage_at
from tests.conformance.quick import facts, killed_at_each_change, make_repository, twin
from tests.conformance.trees import describe, make_full_tree, make_plain_tree

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def template(restic_program: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two snapshots of two hosts, with all kinds of files where this user can make them."""
    folder = tmp_path_factory.mktemp("rewrite")
    make_repository(folder / "repository")
    restic = Restic([restic_program], str(folder / "repository"), {"RESTIC_CACHE_DIR": str(folder / "cache")})
    source = folder / "source"
    (make_full_tree if os.geteuid() == 0 else make_plain_tree)(source)
    restic.backup("source", "--host", "one", "--tag", "a", cwd=folder)
    (source / "large").rename(source / "folder 2" / "moved")
    restic.backup("source", "--host", "two", cwd=folder)
    return folder / "repository"


@pytest.fixture
def repository(template: Path, place: str) -> Path:
    shutil.copytree(template, place)
    return Path(place)


CASES = {
    "a name": ["--exclude", "zeros"],
    "two stars": ["--exclude", "/source/**/file 0*.txt"],
    "a folder": ["--exclude", "/source/folder 1"],
    "any case": ["--iexclude", "LARGE"],
    "take back": ["--exclude", "*.txt", "--exclude", "!file 03.txt"],
    "what is not there": ["--exclude", "not there"],
    "include": ["--include", "*.txt"],
    "include a folder": ["--include", "/source/folder 2"],
    "include in any case": ["--iinclude", "MOVED"],
    "forget": ["--forget", "--exclude", "zeros"],
    "forget one": ["--forget", "--exclude", "zeros", "latest"],
    "of a host": ["--exclude", "zeros", "--host", "one"],
    "host and time": ["--new-host", "other", "--new-time", "2001-02-03 04:05:06"],
    "all at once": ["--new-host", "other", "--exclude", "*.txt", "--forget"],
    "summary": ["--snapshot-summary"],
    "dry run": ["--dry-run", "--forget", "--exclude", "zeros"],
}


@pytest.mark.parametrize("case", CASES)
def test_it_writes_what_restic_writes(case: str, repository: Path, restic: Restic, lowtide: Lowtide) -> None:
    theirs, ours = twin(restic, lowtide)

    theirs.run("rewrite", *CASES[case])
    ours.run("rewrite", *CASES[case])

    assert facts(restic.snapshots()) == facts(theirs.snapshots())
    restic.run("check", "--read-data" if case == "all at once" else "--no-cache")


def test_restic_rewrites_what_was_rewritten(repository: Path, restic: Restic, lowtide: Lowtide, tmp_path: Path) -> None:
    lowtide.run("rewrite", "--forget", "--exclude", "zeros")
    restic.run("rewrite", "--forget", "--exclude", "large")
    lowtide.run("prune")

    restic.run("check", "--read-data", "--check-unused")
    restic.run("restore", "latest", "--target", tmp_path / "back")
    assert b"source/zeros" not in describe(tmp_path / "back")


def test_a_second_time_it_finds_what_it_wrote(repository: Path, restic: Restic, lowtide: Lowtide) -> None:
    lowtide.run("rewrite", "--exclude", "zeros")
    before = restic.list_ids("snapshots") | restic.list_ids("packs") | restic.list_ids("index")

    lowtide.run("rewrite", "--exclude", "zeros")

    assert restic.list_ids("snapshots") | restic.list_ids("packs") | restic.list_ids("index") == before


def test_what_makes_no_sense_is_refused(lowtide: Lowtide) -> None:
    for arguments in ([], ["--exclude", "a", "--include", "b"], ["--new-time", "yesterday"]):
        lowtide.run("rewrite", *arguments, code=1)
        assert lowtide.result is not None
        assert lowtide.result.reason == "BadArguments"


def test_a_bad_pattern_is_told(repository: Path, lowtide: Lowtide) -> None:
    lowtide.run("rewrite", "--exclude", "[", code=1)

    assert lowtide.result is not None
    assert lowtide.result.reason == "BadInput"


def test_whose_a_rewritten_snapshot_is(lowtide: Lowtide, tmp_path: Path, place: str) -> None:
    """One beside a run's snapshot belongs to no run; one in its place is still what the verdict names."""
    make_repository(place)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "keep").write_text("kept")
    (tmp_path / "source" / "drop").write_text("dropped")
    owner = ["--policy", "nightly", "--run", "r1"]
    member = lowtide.backup("source", *owner, "--claim", "data", cwd=tmp_path)["snapshot_id"]
    lowtide.run("verdict", "--member", member, *owner)

    lowtide.run("tag", "--add", "mine", member)
    lowtide.run("rewrite", "--exclude", "drop", "--tag", "mine")
    lowtide.run("rewrite", "--exclude", "drop", "--forget", "--tag", "lowtide:claim=data")

    found = {frozenset(tag for tag in one["tags"] if tag[:11] != "lowtide:mem"): one for one in lowtide.snapshots()}
    beside = found[frozenset({"mine", "rewrite"})]
    instead = found[frozenset({"mine", "lowtide:policy=nightly", "lowtide:run=r1", "lowtide:claim=data"})]
    assert beside["tree"] == instead["tree"]
    assert instead["original"] == member
    lowtide.run("restore", instead["id"], "--target", tmp_path / "back", "--delete")


def test_killed_at_any_change_nothing_is_lost(repository: Path) -> None:
    def work(storage: Storage) -> None:
        with exclusive(storage) as locked:
            found = locked.snapshots()
            request = RewriteRequest(excludes=[b"zeros"], forget=True)
            for _ in rewrite(locked, found, found, request, FOREVER):
                pass

    with exclusive(storage_at(repository)) as locked:
        originals = {snapshot.id for snapshot in locked.snapshots()}

    def judge() -> None:
        with exclusive(storage_at(repository)) as locked:
            found = {snapshot.original or snapshot.id for snapshot in locked.snapshots()}
        assert found == originals

    assert killed_at_each_change(repository, work, judge) >= 8
