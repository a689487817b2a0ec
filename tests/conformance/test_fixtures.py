"""Every fixture of restic and rustic behaves as restic-format.md says, and restic agrees where it is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.actors import Lowtide, Restic
from tests.conformance.trees import describe

pytestmark = pytest.mark.oracle
Unpack = Callable[[str], Path]

GOOD = [
    "small-repo",
    "copy-unstable-json",
    "repo-duplicates",
    "repo-unreferenced-data",
    "repo-obsolete-index",
    "repo-restore-permissions-test",
    "repo-layout-default",
]
BAD = {
    "repo-index-missing": "index",
    "repo-index-missing-blob": "index",
    "repo-data-missing": "pack",
    "repo-unused-data-missing": "pack",
}


def opened(lowtide: Lowtide, repository: Path, password: str = "geheim") -> Lowtide:
    lowtide.repository = str(repository)
    lowtide.environment |= {"RESTIC_PASSWORD": password}
    return lowtide


@pytest.mark.parametrize("name", GOOD)
def test_a_whole_repository_checks_well(name: str, lowtide: Lowtide, fixture: Unpack) -> None:
    ours = opened(lowtide, fixture(f"restic/{name}") / "repo")

    summary = ours.run("check", "--read-data", "--json").summary()

    assert summary["num_errors"] == 0


@pytest.mark.parametrize("name", BAD)
def test_a_damaged_repository_fails_and_names_what_is_damaged(
    name: str, lowtide: Lowtide, restic: Restic, fixture: Unpack
) -> None:
    ours = opened(lowtide, fixture(f"restic/{name}") / "repo")

    ran = ours.run("check", "--json", code=1)

    assert ran.summary()["num_errors"] > 0
    assert BAD[name] in ran.err
    assert ours.result is not None
    assert ours.result.reason == "RepositoryDamaged"
    assert ours.result.warnings
    restic.repository = ours.repository
    restic.run("check", code=1, extra={"RESTIC_PASSWORD": "geheim"})


def test_missing_packs_are_named_whole(lowtide: Lowtide, restic: Restic, fixture: Unpack) -> None:
    ours = opened(lowtide, fixture("restic/repo-data-missing") / "repo")

    broken = ours.run("check", "--json", code=1).summary()["broken_packs"]

    restic.repository = ours.repository
    theirs = restic.run("check", code=1, extra={"RESTIC_PASSWORD": "geheim"})
    assert broken
    assert all(pack in theirs.err + theirs.out for pack in broken)


def test_duplicates_are_a_failure_only_where_unused_blobs_are(lowtide: Lowtide, fixture: Unpack) -> None:
    ours = opened(lowtide, fixture("restic/repo-unreferenced-data") / "repo")

    assert ours.run("check", "--json").summary()["suggest_prune"] is True


def test_check_unused_fails_where_blobs_are_unused(lowtide: Lowtide, fixture: Unpack) -> None:
    """restic 0.19 ignores the option; its fixture is from when it did not."""
    ours = opened(lowtide, fixture("restic/repo-duplicates") / "repo")

    ran = ours.run("check", "--check-unused", code=1)

    assert "is not used by any snapshot" in ran.err


@pytest.mark.parametrize("name", GOOD)
def test_every_snapshot_is_restored_as_restic_does(
    name: str, lowtide: Lowtide, restic: Restic, fixture: Unpack, tmp_path: Path
) -> None:
    ours = opened(lowtide, fixture(f"restic/{name}") / "repo")
    restic.repository = ours.repository
    restic.environment |= {"RESTIC_PASSWORD": "geheim"}
    for snapshot in ours.snapshots():
        short = snapshot["short_id"]
        theirs = restic.run("restore", snapshot["id"], "--target", tmp_path / f"restic {short}", code=None)
        ours.run("restore", snapshot["id"], "--target", tmp_path / f"lowtide {short}", code=theirs.code)

        expected, actual = (describe(tmp_path / f"{who} {short}") for who in ("restic", "lowtide"))
        expected.pop(b"."), actual.pop(b".")
        assert actual == expected


def test_a_folder_that_is_not_writable_gets_its_files(lowtide: Lowtide, fixture: Unpack, tmp_path: Path) -> None:
    ours = opened(lowtide, fixture("restic/repo-restore-permissions-test") / "repo")
    listed = [line for line in ours.run("ls", "latest").out.splitlines() if line.startswith("/")]

    ours.run("restore", "latest", "--target", tmp_path / "out")

    assert listed
    assert all((tmp_path / "out" / name.lstrip("/")).exists() for name in listed)


def test_a_repository_by_restic_of_rustics_fixtures(lowtide: Lowtide, fixture: Unpack, tmp_path: Path) -> None:
    ours = opened(lowtide, fixture("rustic/restic-repo") / "repo", "restic")

    ours.run("check", "--read-data")
    assert len(ours.snapshots()) == 2
    ours.run("restore", "latest", "--target", tmp_path / "out")
    assert len(describe(tmp_path / "out")) > 10


def test_a_repository_made_by_rustic_opens(lowtide: Lowtide, fixture: Unpack) -> None:
    (repository,) = [path for path in fixture("rustic/rustic-copy-repo").iterdir() if path.is_dir()]
    ours = opened(lowtide, repository, "rustic")

    assert ours.snapshots() == []
    ours.run("check", "--read-data")


def test_a_real_source_tree_goes_through_both(
    lowtide: Lowtide, restic: Restic, fixture: Unpack, tmp_path: Path
) -> None:
    source = fixture("restic/backup-data")
    lowtide.run("init")
    lowtide.backup(source)
    restic.run("check", "--read-data")
    restic.run("restore", f"latest:{source}", "--target", tmp_path / "restic")
    lowtide.run("restore", f"latest:{source}", "--target", tmp_path / "lowtide")

    original = describe(source)
    for who in ("restic", "lowtide"):
        back = describe(tmp_path / who)
        assert {path: entry for path, entry in back.items() if path != b"."} == {
            path: entry for path, entry in original.items() if path != b"."
        }


def test_hard_links_of_the_fixture_stay_linked(lowtide: Lowtide, fixture: Unpack, tmp_path: Path) -> None:
    source = fixture("restic/test.hl")
    lowtide.run("init")
    lowtide.backup(source)

    lowtide.run("restore", f"latest:{source}", "--target", tmp_path / "out")

    names = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len({path.stat().st_ino for path in names}) < len(names)
