"""diff, find and stats say what restic says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.actors import Actor, Lowtide, Ran, Restic
from tests.conformance.quick import make_repository
from tests.conformance.trees import make_full_tree, make_plain_tree

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def two_snapshots(restic_program: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str], Path]:
    """A repository with a folder before and after many kinds of change; gives it, the ids and the folder."""
    folder = tmp_path_factory.mktemp("looking")
    make_repository(folder / "repository")
    restic = Restic([restic_program], str(folder / "repository"), {"RESTIC_CACHE_DIR": str(folder / "cache")})
    source = folder / "source"
    (make_full_tree if os.geteuid() == 0 else make_plain_tree)(source)
    (source / "becomes a link").write_text("file")
    (source / "goes").mkdir()
    (source / "goes" / "inside").write_text("to be removed")
    (source / "twice").write_bytes(b"equal content" * 100)
    (source / "folder 1" / "twice").write_bytes(b"equal content" * 100)
    os.link(source / "twice", source / "linked")
    os.utime(source / "empty", ns=(0, 0))
    ids = [restic.backup(source)["snapshot_id"]]
    (source / "becomes a link").unlink()
    (source / "becomes a link").symlink_to("elsewhere")
    (source / "goes" / "inside").unlink()
    (source / "goes").rmdir()
    (source / "comes" / "deeper").mkdir(parents=True)
    (source / "comes" / "deeper" / "new").write_bytes(os.urandom(3_000_000))
    with open(source / "large", "r+b") as file:
        file.write(b"changed")
    os.chmod(source / "zeros", 0o600)
    ids.append(restic.backup(source)["snapshot_id"])
    return str(folder / "repository"), ids, source


@pytest.fixture
def both(two_snapshots: tuple[str, list[str], Path], restic: Restic, lowtide: Lowtide) -> tuple[Restic, Lowtide]:
    restic.repository = lowtide.repository = two_snapshots[0]
    return restic, lowtide


def lines(ran: Ran) -> list[Any]:
    return [json.loads(line) for line in ran.out.splitlines()]


@pytest.mark.parametrize("options", [[], ["--metadata"]])
@pytest.mark.parametrize("below", ["", "folder 1", "/"])
def test_diff(
    options: list[str], below: str, both: tuple[Restic, Lowtide], two_snapshots: tuple[str, list[str], Path]
) -> None:
    _, ids, source = two_snapshots
    where = {"": "", "/": ":/"}.get(below, f":{source}/{below}")
    for first, second in (ids, ids[::-1], [ids[0], ids[0]]):
        arguments = ["diff", "--json", *options, f"{first}{where}", f"{second}{where}"]
        theirs, ours = (lines(actor.run(*arguments)) for actor in both)
        assert ours == theirs
    plain = [actor.run("diff", *options, *(f"{name}{where}" for name in ids)).out.splitlines() for actor in both]
    letters = [[line for line in text if "/" in line and "snapshot" not in line] for text in plain]
    assert letters[0] == letters[1]


def test_diff_tells_a_change_of_content(lowtide: Lowtide, restic: Restic, place: str, tmp_path: Path) -> None:
    make_repository(place)
    file = tmp_path / "source" / "file"
    file.parent.mkdir()
    for content in (b"before", b"after!"):
        with open(file, "r+b" if file.exists() else "wb") as opened:
            opened.write(content)
        os.utime(file, (1, 1))
        lowtide.backup(file.parent, "--force", "--time", "2020-01-01 00:00:00")
    first, second = (snapshot["id"] for snapshot in restic.snapshots())

    theirs, ours = (lines(actor.run("diff", "--json", first, second)) for actor in (restic, lowtide))

    assert ours == theirs


def test_diff_wants_snapshots_that_are_there(both: tuple[Restic, Lowtide]) -> None:
    assert both[1].run("diff", "latest", code=1)
    assert both[1].run("diff", "latest", "abcdef", code=1)
    assert both[1].run("diff", "latest:/not/there", "latest", code=1)


def instants(found: Any) -> Any:
    """With times as instants: programs may write them in their own ways."""
    if isinstance(found, list):
        return [instants(one) for one in found]
    if not isinstance(found, dict):
        return found
    times = ("mtime", "atime", "ctime", "time")
    return {
        key: datetime.fromisoformat(value) if key in times else instants(value)
        for key, value in found.items()
        if key not in ("linktarget", "path") or value.isascii()
    }


def test_ls_with_sizes_for_people(both: tuple[Restic, Lowtide]) -> None:
    listed = [actor.run("ls", "--long", "--human-readable", "latest").out.splitlines() for actor in both]

    theirs, ours = ({line for line in text if line.startswith("-") and "/file 0" in line} for text in listed)
    assert ours == theirs
    assert any(" KiB " in line for line in ours)


FIND = {
    "a name": ["large"],
    "a star": ["file 0*"],
    "several": ["large", "*.txt", "zeros"],
    "a path": ["{source}/folder 1/deeper/*.txt"],
    "two stars": ["{source}/**/file 03.txt"],
    "any case": ["-i", "LARGE"],
    "case counts": ["LARGE"],
    "an exclamation mark is none": ["!large"],
    "of a snapshot": ["-s", "latest", "inside"],
    "oldest first": ["--reverse", "large"],
    "old": ["--newest", "2020-10-01", "large", "empty", "zeros"],
    "new": ["--oldest", "2020-10-01 00:00:00", "large", "empty", "zeros"],
    "nothing": ["not there"],
}


@pytest.mark.parametrize("case", FIND)
def test_find_files(case: str, both: tuple[Restic, Lowtide], two_snapshots: tuple[str, list[str], Path]) -> None:
    options = [option.replace("{source}", str(two_snapshots[2])) for option in FIND[case]]

    theirs, ours = (json.loads(actor.run("find", "--json", *options).out) for actor in both)

    assert instants(ours) == instants(theirs)
    if case in ("several", "nothing"):
        plain = [actor.run("find", "--long", *options).out.splitlines() for actor in both]
        lines = [sorted(line for line in text if "source" in line) for text in plain]
        assert lines[0] == lines[1]


def objects(ran: Ran) -> list[Any]:
    return sorted(instants(json.loads(ran.out)), key=lambda hit: (hit["snapshot"], hit["id"], hit.get("path", "")))


def of_kind(kind: str, hits: list[Any]) -> list[Any]:
    return [hit for hit in hits if hit["object_type"] == kind]


def some_blobs(restic: Restic) -> Iterator[tuple[str, str]]:
    for line in restic.run("list", "blobs").out.splitlines()[::3]:
        kind, name = line.split()
        yield kind, name


def test_find_objects(both: tuple[Restic, Lowtide]) -> None:
    restic, lowtide = both
    blobs = [name for kind, name in some_blobs(restic) if kind == "data"]
    trees = [name for kind, name in some_blobs(restic) if kind == "tree"]
    packs = sorted(restic.list_ids("packs"))

    whole, cut = ["--blob", *blobs[:5]], ["--blob", blobs[0][:8]]
    for ids in (whole, cut, ["--tree", trees[0][:8]], ["--pack", packs[0][:8]], ["--pack", *packs]):
        theirs, ours = (objects(actor.run("find", "--json", *ids)) for actor in (restic, lowtide))
        assert of_kind("blob", ours) == of_kind("blob", theirs)
        # restic names a tree once, in the first snapshot that it looks at; we name every place.
        assert all(tree in ours for tree in of_kind("tree", theirs))
        assert {tree["id"] for tree in of_kind("tree", ours)} == {tree["id"] for tree in of_kind("tree", theirs)}
        assert ours

    (pack,) = {e for e in packs if blobs[0] in lowtide.run("find", "--pack", "--json", e).out}
    assert f"is in pack {pack}" in lowtide.run("find", "--blob", "--show-pack-id", blobs[0]).out
    lowtide.run("find", "--pack", "abcdef012345", code=1)
    lowtide.run("find", "--pack", "--blob", blobs[0], code=1)


def test_find_in_a_pack_that_no_index_names(restic: Restic, lowtide: Lowtide, place: str, tmp_path: Path) -> None:
    make_repository(place)
    (tmp_path / "file").write_bytes(os.urandom(1000))
    restic.backup(tmp_path / "file")
    for index in Path(place, "index").iterdir():
        index.rename(tmp_path / index.name)
    packs = sorted(restic.list_ids("packs"))
    lowtide.run("find", "--pack", packs[0], code=1)  # its trees can't be read without an index
    for index in tmp_path.glob("?" * 64):
        index.rename(Path(place, "index", index.name))

    theirs, ours = (objects(actor.run("find", "--json", "--pack", *packs)) for actor in (restic, lowtide))

    assert ours == theirs


@pytest.mark.parametrize("mode", ["restore-size", "files-by-contents", "blobs-per-file", "raw-data"])
def test_stats(mode: str, both: tuple[Restic, Lowtide]) -> None:
    for chosen in ([], ["latest"], ["--tag", "no such tag"]):
        actors: list[Actor] = list(both)
        theirs, ours = (json.loads(actor.run("stats", "--json", "--mode", mode, *chosen).out) for actor in actors)
        assert ours == pytest.approx(theirs)
        assert ours.keys() == theirs.keys()
    assert f"Stats in {mode} mode" in both[1].run("stats", "--mode", mode).out


def test_stats_of_a_repository_that_compresses_nothing(
    restic: Restic, lowtide: Lowtide, place: str, tmp_path: Path
) -> None:
    make_repository(place, version=1)
    make_plain_tree(tmp_path / "source")
    restic.backup(tmp_path / "source")

    theirs, ours = (json.loads(actor.run("stats", "--json", "--mode", "raw-data").out) for actor in (restic, lowtide))

    assert ours == theirs


@pytest.mark.parametrize("kind", ["blobs", "packs", "index", "snapshots", "keys", "locks"])
def test_list(kind: str, both: tuple[Restic, Lowtide]) -> None:
    theirs, ours = (sorted(actor.run("list", kind).out.splitlines()) for actor in both)

    assert ours == theirs
    assert bool(ours) == (kind != "locks")
