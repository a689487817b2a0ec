"""What is copied into another repository restores as in the first, by either program, and is stored once."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any, Literal

import pytest

from lowtide_engine.copy import copied_before, copy
from lowtide_engine.errors import Interrupted
from lowtide_engine.storage import Storage
from tests.conformance.actors import PASSWORD, Actor, Lowtide, Restic
from tests.conformance.pruning import FOREVER, PACK_SIZE, Watching, exclusive, storage_at, write_source
from tests.conformance.quick import facts, killed_at_each_change, make_repository
from tests.conformance.trees import describe, differences, make_plain_tree

pytestmark = pytest.mark.oracle


@pytest.fixture
def source(tmp_path: Path, restic: Restic) -> Restic:
    """restic on another repository, with three snapshots of a growing folder."""
    other = Restic(restic.command, str(tmp_path / "source repository"), restic.environment)
    make_repository(other.repository)
    for number in range(3):
        write_source(tmp_path / "files", seed=number, names=range(number, number + 4))
        other.backup(tmp_path / "files", "--tag", f"n{number}", "--time", f"2020-01-0{number + 1} 00:00:00")
    return other


def from_source(source: Actor) -> dict[str, str]:
    return {"RESTIC_FROM_REPOSITORY": source.repository, "RESTIC_FROM_PASSWORD": PASSWORD}


def all_files(actor: Actor, target: Path) -> list[Any]:
    found = []
    for snapshot in sorted(actor.snapshots(), key=lambda one: str(one["time"])):
        actor.run("restore", snapshot["id"], "--target", target / str(snapshot["id"]))
        tree = describe(target / str(snapshot["id"]))
        del tree[b"."]
        found.append(tree)
    return found


@pytest.mark.parametrize(("of_source", "of_target"), [(2, 2), (1, 2), (2, 1)])
def test_restic_finds_what_it_would_have_copied(
    restic: Restic, lowtide: Lowtide, tmp_path: Path, place: str, of_source: Literal[1, 2], of_target: Literal[1, 2]
) -> None:
    source = Restic(restic.command, str(tmp_path / "source repository"), restic.environment)
    make_repository(source.repository, version=of_source)
    make_plain_tree(tmp_path / "files")
    source.backup(tmp_path / "files", "--tag", "a,b")
    os.rename(tmp_path / "files" / "large", tmp_path / "files" / "moved")
    source.backup(tmp_path / "files")
    make_repository(place, version=of_target)
    theirs = Restic(restic.command, str(tmp_path / "copied by restic"), restic.environment)
    shutil.copytree(place, theirs.repository)

    theirs.run("copy", extra=from_source(source))
    lowtide.run("copy", extra=from_source(source))

    restic.run("check", "--read-data", "--check-unused" if of_source == of_target else "--read-data")
    assert facts(restic.snapshots()) == facts(theirs.snapshots())
    blobs = [sorted(set(one.run("list", "blobs").out.split("\n"))) for one in (restic, theirs)]
    assert blobs[0] == blobs[1]
    for was, now in zip(all_files(source, tmp_path / "was"), all_files(restic, tmp_path / "now"), strict=True):
        assert differences(was, now) == []


@pytest.mark.parametrize(
    "password",
    [
        ["--from-password-file", "{secret}"],
        ["--from-password-command", "cat {secret}"],
        ["--from-insecure-no-password"],
    ],
)
def test_the_source_is_said_by_files_or_a_command(
    password: list[str], source: Restic, lowtide: Lowtide, restic: Restic, tmp_path: Path
) -> None:
    """For a new repository with the source's chunker too."""
    (tmp_path / "place").write_text(source.repository)
    (tmp_path / "secret").write_text(PASSWORD)
    source.run("key", "add", "--new-insecure-no-password")
    options = ["--from-repository-file", tmp_path / "place"]
    options += [word.format(secret=tmp_path / "secret") for word in password]
    lowtide.run("init", "--copy-chunker-params", *options)
    lowtide.run("copy", *options)
    assert len(restic.snapshots()) == 3
    cut = [actor.run("cat", "config").out.split("chunker_polynomial")[1] for actor in (source, restic)]
    assert cut[0] == cut[1]


def test_a_second_copy_by_either_program_does_nothing(
    source: Restic, restic: Restic, lowtide: Lowtide, place: str
) -> None:
    make_repository(place)
    restic.run("copy", "latest", extra=from_source(source))

    first = lowtide.run("copy", "--json", extra=from_source(source)).summary()
    again = lowtide.run("copy", "--json", extra=from_source(source)).summary()
    before = restic.list_ids("packs") | restic.list_ids("snapshots")
    restic.run("copy", extra=from_source(source))

    assert (first["copied_snapshots"], first["skipped_snapshots"]) == (2, 1)
    assert (again["copied_snapshots"], again["skipped_snapshots"]) == (0, 3)
    assert restic.list_ids("packs") | restic.list_ids("snapshots") == before


def test_only_what_is_selected_is_copied(source: Restic, restic: Restic, lowtide: Lowtide, place: str) -> None:
    make_repository(place)
    newest = source.snapshots()[-1]["id"]

    lowtide.run("copy", "--tag", "n1", "--from-repo", source.repository, extra={"RESTIC_FROM_PASSWORD": PASSWORD})
    lowtide.run("copy", newest[:8], extra=from_source(source))

    assert [one["tags"] for one in restic.snapshots()] == [["n1"], ["n2"]]
    assert restic.snapshots()[-1]["original"] == newest
    restic.run("check", "--read-data", "--check-unused")


def test_equal_chunks_are_stored_once(source: Restic, restic: Restic, lowtide: Lowtide, tmp_path: Path) -> None:
    make_plain_tree(tmp_path / "big")
    source.backup(tmp_path / "big")
    lowtide.run("init", "--copy-chunker-params", extra=from_source(source))
    restic.backup(tmp_path / "big")

    added = lowtide.run("copy", "latest", extra=from_source(source))

    assert "copied 1 snapshots" in added.out
    restic.run("check", "--read-data", "--check-unused")
    blobs = [line for line in restic.run("list", "blobs").out.split("\n") if line.startswith("data")]
    assert len(blobs) == len(set(blobs))


def test_who_names_no_source_or_the_same_is_told(source: Restic, lowtide: Lowtide, place: str) -> None:
    make_repository(place)

    assert "--from-repo" in lowtide.run("copy", code=1).err
    named = from_source(source)
    same = lowtide.run("copy", extra={**named, "RESTIC_FROM_REPOSITORY": place}, code=1)
    assert "same repository" in same.err
    lowtide.run("copy", extra={**named, "RESTIC_FROM_PASSWORD": "wrong"}, code=12)
    lowtide.run("copy", extra={**named, "RESTIC_FROM_REPOSITORY": f"{place} no"}, code=10)
    lowtide.run("init", "--from-repo", source.repository, code=1)


def test_a_damaged_snapshot_of_the_source_is_told_and_the_others_are_copied(
    source: Restic, lowtide: Lowtide, restic: Restic, place: str
) -> None:
    """restic does so too, but ends as if all had been copied."""
    make_repository(place)
    oldest, *others = source.snapshots()
    damaged = Path(source.repository, "snapshots", oldest["id"])
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1])

    ran = lowtide.run("copy", "--no-cache", extra=from_source(source), code=1)
    lowtide.run("copy", "--no-cache", oldest["id"], extra=from_source(source), code=1)
    lowtide.run("copy", "--no-cache", "latest", extra=from_source(source), code=1)
    lowtide.run("copy", "--no-cache", others[0]["id"], extra=from_source(source))

    assert oldest["short_id"] in ran.err
    assert {one["original"] for one in restic.snapshots()} == {one["id"] for one in others}
    restic.run("check", "--read-data", "--check-unused")


def test_nothing_is_written_where_the_source_lacks_something(
    source: Restic, lowtide: Lowtide, restic: Restic, place: str
) -> None:
    make_repository(place)
    index = min(Path(source.repository, "index").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    index.unlink()

    ran = lowtide.run("copy", extra=from_source(source), code=1)

    assert "nothing was copied" in ran.err
    assert restic.list_ids("packs") == restic.list_ids("snapshots") == set()


def copy_at(source: Path, storage: Storage, stop: threading.Event = FOREVER) -> int:
    with exclusive(storage_at(source)) as reading, exclusive(storage) as writing:
        chosen = reading.snapshots()
        known = copied_before(chosen, writing.snapshots())
        missing = [one for one in chosen if one.id not in known]
        return len(list(copy(reading, writing, missing, Watching(), stop, pack_size=PACK_SIZE)))


def test_killed_at_any_change_the_target_is_whole_and_the_next_run_ends_it(
    source: Restic, restic: Restic, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowtide_engine.packing.INDEX_PACKS", 2)
    make_repository(place)

    changes = killed_at_each_change(
        Path(place), lambda storage: copy_at(Path(source.repository), storage) and None, lambda: None
    )

    assert changes > 10
    assert len(restic.snapshots()) == 3
    restic.run("check", "--read-data", "--check-unused")


def test_stopped_it_keeps_what_it_stored(
    source: Restic, restic: Restic, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowtide_engine.unpacking.RANGE_BYTES", 1)
    make_repository(place)
    stop = threading.Event()
    watching = Watching(lambda progress: stop.set() if len(list(Path(place, "data").glob("*/*"))) > 1 else None)

    with (
        exclusive(storage_at(Path(source.repository))) as reading,
        exclusive(storage_at(Path(place))) as writing,
        pytest.raises(Interrupted),
    ):
        list(copy(reading, writing, reading.snapshots(), watching, stop, pack_size=1))
    stored = restic.list_ids("packs")
    copy_at(Path(source.repository), storage_at(Path(place)))

    assert len(stored) > 1
    assert stored < restic.list_ids("packs")
    restic.run("check", "--read-data", "--check-unused")
