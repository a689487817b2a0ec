"""What lowtide writes, restic reads, and the other way round; each builds upon the other's snapshots."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.actors import Actor, Lowtide, Restic
from tests.conformance.trees import describe, differences, make_full_tree, make_plain_tree

pytestmark = pytest.mark.oracle
AS_WE_DO = {"RESTIC_FEATURES": "device-id-for-hardlinks=true", "TZ": "UTC"}


@pytest.fixture(params=["1", "2"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def restored(actor: Actor, target: Path, *arguments: str | Path) -> Path:
    actor.run("restore", "latest", "--target", target, *arguments)
    return target


def full_tree(folder: Path) -> Path:
    """Everything that this user can make: all kinds of files for root, else a plain tree."""
    if os.geteuid() == 0:
        make_full_tree(folder)
    else:
        make_plain_tree(folder)
    return folder


def test_restic_checks_and_restores_what_lowtide_wrote(
    lowtide: Lowtide, restic: Restic, tmp_path: Path, version: str
) -> None:
    source = full_tree(tmp_path / "source")
    lowtide.run("init", "--repository-version", version)

    lowtide.backup("source", cwd=tmp_path)

    restic.run("check", "--read-data")
    back = restored(restic, tmp_path / "back", "--sparse")
    assert differences(describe(source), describe(back / "source")) == []


def test_lowtide_checks_and_restores_what_restic_wrote(
    lowtide: Lowtide, restic: Restic, tmp_path: Path, version: str
) -> None:
    source = full_tree(tmp_path / "source")
    restic.run("init", "--repository-version", version)

    restic.backup("source", cwd=tmp_path)

    lowtide.run("check", "--read-data")
    back = restored(lowtide, tmp_path / "back", "--sparse", "--verify")
    assert differences(describe(source), describe(back / "source")) == []


def test_lowtide_restores_its_own(lowtide: Lowtide, tmp_path: Path, version: str) -> None:
    source = full_tree(tmp_path / "source")
    lowtide.run("init", "--repository-version", version)
    lowtide.backup("source", cwd=tmp_path)

    back = restored(lowtide, tmp_path / "back", "--verify")

    assert differences(describe(source), describe(back / "source")) == []


def test_restic_finds_everything_unchanged_after_lowtide(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    full_tree(tmp_path / "source")
    lowtide.run("init")
    first = lowtide.backup("source", cwd=tmp_path)

    restic.environment |= AS_WE_DO
    second = restic.backup("source", cwd=tmp_path)

    assert restic.snapshots()[-1]["parent"] == first["snapshot_id"]
    assert second["files_new"] == second["files_changed"] == 0
    assert second["files_unmodified"] == first["files_new"]
    assert (second["data_blobs"], second["tree_blobs"]) == (0, 0)
    assert restic.snapshots()[-1]["tree"] == lowtide.snapshots()[0]["tree"]


def test_lowtide_finds_everything_unchanged_after_restic(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    full_tree(tmp_path / "source")
    restic.environment |= AS_WE_DO
    restic.run("init")
    first = restic.backup("source", cwd=tmp_path)

    second = lowtide.backup("source", cwd=tmp_path)

    assert lowtide.snapshots()[-1]["parent"] == first["snapshot_id"]
    assert second["files_new"] == second["files_changed"] == 0
    assert (second["data_blobs"], second["tree_blobs"]) == (0, 0)
    assert lowtide.snapshots()[-1]["tree"] == restic.snapshots()[0]["tree"]


def test_what_changed_is_found_by_either(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_plain_tree(source)
    restic.environment |= AS_WE_DO
    lowtide.run("init")
    actors: list[Actor] = [lowtide, restic, lowtide]
    for number, actor in enumerate(actors):
        (source / "folder 1" / f"new {number}").write_bytes(b"new" * (number + 1))
        with open(source / "large", "ab") as file:
            file.write(b"more")

        summary = actor.backup(source)

        assert (summary["files_new"], summary["files_changed"]) == ((1, 1) if number else (summary["files_new"], 0))
    restic.run("check", "--read-data")
    back = restored(restic, tmp_path / "back")
    assert differences(describe(source), describe(back / str(source).lstrip("/"))) == []


def test_restic_rewrites_and_prunes_what_lowtide_wrote(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    full_tree(tmp_path / "source")
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)

    restic.run("rewrite", "--forget", "--exclude", "zeros", "latest")
    restic.run("prune")

    restic.run("check", "--read-data")
    lowtide.run("check", "--read-data")
    back = restored(lowtide, tmp_path / "back")
    assert not (back / "source" / "zeros").exists()
    assert (back / "source" / "large").exists()


def test_a_second_backup_without_a_change_adds_nothing(lowtide: Lowtide, tmp_path: Path) -> None:
    full_tree(tmp_path / "source")
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)

    for arguments in ((), ("--force",)):
        summary = lowtide.backup("source", *arguments, cwd=tmp_path)
        assert (summary["data_blobs"], summary["tree_blobs"], summary["data_added"]) == (0, 0, 0)


def test_restic_mixes_well_in_one_repository(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    """Same content, each its own snapshots: every chunk and tree is stored once, whoever comes first."""
    make_plain_tree(tmp_path / "one", seed=7)
    make_plain_tree(tmp_path / "two", seed=7)
    lowtide.run("init")
    lowtide.backup("one", cwd=tmp_path)

    assert restic.backup("two", cwd=tmp_path)["data_blobs"] == 0
    restic.run("check", "--read-data")
    lowtide.run("check", "--read-data", "--check-unused")


def test_tags_hosts_and_times_are_seen_by_restic(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    make_plain_tree(tmp_path / "source")
    lowtide.run("init")
    owner = [*("--cluster", "c-uid"), *("--namespace", "shop"), *("--policy", "nightly"), *("--run", "r1")]

    lowtide.backup(
        *("source", "--host", "shop/nightly", "--tag", "a,b", "--tag", "c", "--time", "2020-02-03 04:05:06"),
        *owner,
        *("--claim", "data"),
        cwd=tmp_path,
    )

    (snapshot,) = restic.snapshots()
    reserved = ["cluster=c-uid", "namespace=shop", "policy=nightly", "run=r1", "claim=data"]
    assert snapshot["tags"] == ["a", "b", "c", *(f"lowtide:{tag}" for tag in reserved)]
    assert snapshot["hostname"] == "shop/nightly"
    assert snapshot["time"].startswith("2020-02-03T04:05:06")
    assert snapshot["paths"] == [str(tmp_path / "source")]
    assert snapshot["program_version"].startswith("lowtide ")
