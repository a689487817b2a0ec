"""What a restore is worth: what `latest` means, a folder that was empty, and which failures leave the data whole."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from lowtide_engine.contract import Result
from tests.conformance.actors import Actor, Lowtide, Restic
from tests.conformance.rights import without_capabilities, without_syncing
from tests.conformance.trees import make_plain_tree

pytestmark = pytest.mark.oracle


def result(lowtide: Lowtide) -> Result:
    assert lowtide.result is not None
    return lowtide.result


def test_latest_is_never_the_verdict_of_a_run(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    """A verdict is the newest snapshot of its run, and holds one small file: --delete would leave nothing else."""
    make_plain_tree(tmp_path / "data")
    lowtide.run("init")
    run = ("--policy", "nightly", "--run", "r1")
    data = lowtide.backup("data", *run, "--claim", "data", "--host", "shop", cwd=tmp_path)["snapshot_id"]
    lowtide.run("verdict", "--host", "shop", *run, "--member", data)
    (verdict,) = result(lowtide).snapshot_ids
    target = tmp_path / "target"

    lowtide.run("restore", "latest:/data", "--target", target, "--delete")

    assert result(lowtide).snapshot_ids == [data]
    assert (target / "large").read_bytes() == (tmp_path / "data" / "large").read_bytes()
    assert "verdict.json" not in lowtide.run("ls", "latest", "--host", "shop").out
    assert lowtide.run("dump", "latest", "/data/empty").out == ""
    assert "verdict.json" in lowtide.run("ls", "latest", "--tag", "lowtide:verdict").out
    assert "verdict.json" in lowtide.run("ls", verdict).out
    lowtide.run("ls", "latest~1", code=1)
    assert result(lowtide).reason == "SnapshotMissing"


def test_a_folder_that_was_empty_is_restored_as_empty(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    """So is a Restore rolled back whose volume held nothing before: from a snapshot without a verdict."""
    volume = tmp_path / "volumes" / "data"
    volume.mkdir(parents=True)
    lowtide.run("init")
    before = lowtide.backup(volume, "--run", "r1", "--claim", "data")["snapshot_id"]
    make_plain_tree(volume)

    lowtide.run("restore", f"{before}:{volume}", "--target", volume, "--delete", "--allow-partial", "--verify")

    assert list(volume.iterdir()) == []
    assert (result(lowtide).outcome, result(lowtide).reason) == ("ok", "Completed")


def restore_without_capabilities(lowtide: Lowtide, target: Path, *more: str) -> tuple[Result, str]:
    """Restore /data of the newest snapshot as such a mover; gives what it said at its end, and on its way."""
    ran = lowtide.run("restore", "latest:/data", "--target", target, *more, code=None, limit=without_capabilities)
    outcome = result(lowtide)
    assert ran.code == (0 if outcome.outcome == "ok" else 1), ran.err
    return outcome, ran.err


def where_shop_is(actor: Actor, number: int, folder: Path) -> Actor:
    """The program on a machine where the user and the group `shop` have this number."""
    line = f"shop:x:{number}:"
    (folder / f"passwd {number}").write_text(f"{line}{number}::/:/bin/false\n")
    (folder / f"group {number}").write_text(f"{line}\n")
    script = 'for kind in passwd group; do mount --bind "$0/$kind $1" "/etc/$kind"; done; shift; exec "$@"'
    command = ["unshare", "--mount", "sh", "-ec", script, str(folder), str(number), *actor.command]
    return replace(actor, command=command)


@pytest.mark.parametrize("by_name", [False, True])
def test_owners_are_those_of_the_same_number_or_name(
    by_name: bool, root_only: None, lowtide: Lowtide, restic: Restic, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, number in (("known", 1234), ("unknown", 5678)):
        (data / name).write_text(name)
        os.chown(data / name, number, number)
    lowtide.run("init")
    where_shop_is(restic, 1234, tmp_path).backup("data", cwd=tmp_path)
    owners = {}
    options = ["--ownership-by-name"] if by_name else []
    for actor in (lowtide, restic):
        target = tmp_path / type(actor).__name__
        where_shop_is(actor, 4321, tmp_path).run("restore", "latest:/data", "--target", target, *options)
        for name in ("known", "unknown"):
            found = (target / name).stat()
            owners[type(actor), name] = found.st_uid, found.st_gid

    known = (4321, 4321) if by_name else (1234, 1234)
    assert owners[Restic, "known"] == owners[Lowtide, "known"] == known
    # To restic what has no name here is root's, by name.
    assert owners[Lowtide, "unknown"] == (5678, 5678)


def test_owners_that_cannot_be_set_are_told_and_the_data_is_there(
    lowtide: Lowtide, restic: Restic, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to back up files of several owners")
    make_plain_tree(tmp_path / "data")
    os.chown(tmp_path / "data" / "large", 1234, 1234)
    lowtide.run("init")
    lowtide.backup("data", cwd=tmp_path)
    target = tmp_path / "target"

    outcome, said = restore_without_capabilities(lowtide, target)

    assert f"owner {target}/large" in said
    assert (outcome.outcome, outcome.reason, outcome.errors) == ("partial", "MetadataIncomplete", 1)
    assert str(target / "large") in outcome.warnings[0]
    assert (target / "large").read_bytes() == (tmp_path / "data" / "large").read_bytes()


def test_data_that_does_not_reach_the_disk_is_a_failure(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    make_plain_tree(tmp_path / "data")
    lowtide.run("init")
    lowtide.backup("data", cwd=tmp_path)

    ran = lowtide.run("restore", "latest:/data", "--target", tmp_path / "target", code=1, limit=without_syncing)

    assert "cannot be brought to the disk" in ran.err
    assert result(lowtide).outcome == "failed"


def test_patterns_that_match_nothing_are_no_success(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    make_plain_tree(tmp_path / "data")
    lowtide.run("init")
    lowtide.backup("data", cwd=tmp_path)
    target = tmp_path / "target"

    lowtide.run("restore", "latest:/data", "--target", target, "--include", "nothing", "--root-metadata", code=1)

    assert result(lowtide).reason == "NothingMatched"


def test_what_is_as_it_was_needs_no_rights(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    """In place, a mover meets files of other users: those that it would not change are no failure, and are not replaced
    by copies of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to back up files of several owners")
    volume = tmp_path / "data"
    make_plain_tree(volume)
    for path in (volume / "large", volume / "folder 1", volume / "link"):
        os.chown(path, 1234, 1234, follow_symlinks=False)
    os.chmod(volume / "large", 0o444)
    lowtide.run("init")
    lowtide.backup("data", cwd=tmp_path)
    (volume / "folder 0" / "deeper" / "file 00.txt").write_bytes(b"changed meanwhile")
    before = (volume / "large").stat()

    outcome, said = restore_without_capabilities(lowtide, volume, "--delete", "--verify")

    assert (outcome.outcome, outcome.errors) == ("ok", 0), said
    after = (volume / "large").stat()
    assert (after.st_ino, after.st_uid, after.st_mtime_ns) == (before.st_ino, 1234, before.st_mtime_ns)
    assert (volume / "folder 0" / "deeper" / "file 00.txt").read_bytes() != b"changed meanwhile"


def test_data_that_is_not_there_is_a_failure_whatever_else(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    make_plain_tree(tmp_path / "data")
    lowtide.run("init")
    lowtide.backup("data", cwd=tmp_path)
    for name in Path(lowtide.repository, "index").iterdir():
        for pack in json.loads(lowtide.run("cat", "index", name.name).out)["packs"]:
            if pack["blobs"][0]["type"] == "data":
                Path(lowtide.repository, "data", pack["id"][:2], pack["id"]).unlink()

    lowtide.run("restore", "latest:/data", "--target", tmp_path / "target", code=1)

    assert (result(lowtide).outcome, result(lowtide).reason) == ("failed", "RestoreIncomplete")
    assert result(lowtide).errors > 0
