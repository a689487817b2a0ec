"""Snapshots as restic and rustic write them, and how one is found among many."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lowtide_engine.errors import BadInput, RepositoryDamaged, SnapshotMissing
from lowtide_engine.repository import Instant, Snapshot, SnapshotFilter, choose_parent, find, group, split_tags, summary

TREE = "ab" * 32


def snap(
    number: int,
    *,
    host: str = "h",
    paths: tuple[str, ...] = ("/data",),
    tags: tuple[str, ...] = (),
    day: int | None = None,
) -> Snapshot:
    time = Instant.parse(f"2024-01-{day or number:02d}T00:00:00Z")
    return Snapshot(time, TREE, paths, hostname=host, tags=tags, id=f"{number:02x}" * 32)


RESTIC = (
    b'{"time":"2024-01-02T03:04:05.678+01:00","parent":"' + b"cd" * 32 + b'","tree":"' + b"ab" * 32 + b'",'
    b'"paths":["/data","/a \\u0026 b"],"hostname":"h","username":"u","uid":1000,"gid":100,"excludes":["*.tmp"],'
    b'"tags":["x","y"],"original":"' + b"ef" * 32 + b'","program_version":"restic 0.18.0",'
    b'"summary":{"backup_start":"2024-01-02T03:04:05.678+01:00","backup_end":"2024-01-02T03:04:06+01:00","files_new":1,'
    b'"files_changed":0,"files_unmodified":0,"dirs_new":1,"dirs_changed":0,"dirs_unmodified":0,"data_blobs":1,'
    b'"tree_blobs":2,"data_added":5,"data_added_packed":4,"total_files_processed":1,"total_bytes_processed":5}}'
)


@pytest.mark.parametrize(
    "text",
    [
        RESTIC,
        b'{"time":"2024-01-02T03:04:05Z","tree":"' + b"ab" * 32 + b'","paths":[]}',
        b'{"time":"2024-01-02T03:04:05Z","tree":"' + b"ab" * 32 + b'","paths":["/"],"hostname":"h","username":"root"}',
    ],
)
def test_what_restic_writes_is_written_again_byte_for_byte(text: bytes) -> None:
    assert Snapshot.decode("12" * 32, text).encode() == text


def test_paths_may_be_null() -> None:
    text = b'{"time":"2024-01-02T03:04:05Z","tree":"' + b"ab" * 32 + b'","paths":null,"tags":null}'
    assert Snapshot.decode("12" * 32, text).paths == ()


def test_what_rustic_adds_is_kept() -> None:
    text = json.loads(RESTIC) | {"label": "l", "delete": {"After": "2030-01-01T00:00:00Z"}, "description": "d"}
    text["summary"]["total_dirs_processed"] = 3
    again = json.loads(Snapshot.decode("12" * 32, json.dumps(text).encode()).retagged(["z"]).encode())
    assert (again["label"], again["delete"], again["description"]) == (text["label"], text["delete"], "d")
    assert again["summary"]["total_dirs_processed"] == 3
    assert again["tags"] == ["z"]


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "x"},
        {"time": None},
        {"tree": None},
        {"tree": "ab"},
        {"tree": 5},
        {"paths": "x"},
        {"paths": [1]},
        {"tags": {"a": 1}},
        {"uid": "0"},
        {"summary": []},
        {"hostname": 5},
    ],
    ids=str,
)
def test_what_is_no_snapshot_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RepositoryDamaged):
        Snapshot.decode("12" * 32, json.dumps(json.loads(RESTIC) | changes).encode())


def test_a_summary_has_every_number() -> None:
    made = summary(
        Instant.parse("2024-01-01T00:00:00Z"), Instant.parse("2024-01-01T00:01:00Z"), {"files_new": 3, "x": 1}
    )
    assert [*made] == [*json.loads(RESTIC)["summary"]]
    assert (made["files_new"], made["data_added"]) == (3, 0)


def test_original_is_set_once() -> None:
    first = snap(1)
    second = replace(first.retagged(["a"]), id="22" * 32)
    third = second.retagged(["b"])
    assert (second.original, third.original) == (first.id, first.id)


ALL = [
    snap(1, tags=("a",)),
    snap(2, tags=("a", "b")),
    snap(3, host="other"),
    snap(4, paths=("/data", "/srv")),
    snap(5, day=2),
]


@pytest.mark.parametrize(
    ("only", "numbers"),
    [
        (SnapshotFilter(), [1, 2, 3, 4, 5]),
        (SnapshotFilter.of(hosts=["h"]), [1, 2, 4, 5]),
        (SnapshotFilter.of(hosts=["h", "other"]), [1, 2, 3, 4, 5]),
        (SnapshotFilter.of(paths=["/srv"]), [4]),
        (SnapshotFilter.of(paths=["/srv", "/data"]), [4]),
        (SnapshotFilter.of(tags=["a"]), [1, 2]),
        (SnapshotFilter.of(tags=["a,b"]), [2]),
        (SnapshotFilter.of(tags=["b", "a"]), [1, 2]),
        (SnapshotFilter.of(tags=[""]), [3, 4, 5]),
        (SnapshotFilter.of(hosts=["none"]), []),
    ],
    ids=str,
)
def test_filters(only: SnapshotFilter, numbers: list[int]) -> None:
    assert [int(s.id[:2], 16) for s in ALL if only.matches(s)] == numbers


@pytest.mark.parametrize(
    ("wanted", "number", "folder"),
    [
        ("latest", 4, "/"),
        ("latest~0", 4, "/"),
        ("latest~1", 3, "/"),
        ("latest~4", 1, "/"),
        ("latest:/srv/x", 4, "/srv/x"),
        ("0101", 1, "/"),
        ("02" * 32, 2, "/"),
        ("0303:etc", 3, "etc"),
        ("05:", 5, "/"),
    ],
)
def test_finding_one(wanted: str, number: int, folder: str) -> None:
    found, inside = find(ALL, wanted)
    assert (found.id[:2], inside) == (f"{number:02x}", folder)


def test_latest_is_of_what_the_filter_leaves() -> None:
    assert find(ALL, "latest", SnapshotFilter.of(hosts=["other"]))[0] is ALL[2]
    with pytest.raises(SnapshotMissing, match="host nobody"):
        find(ALL, "latest", SnapshotFilter.of(hosts=["nobody"]))


@pytest.mark.parametrize("wanted", ["0", "latest~5", "ff", "latest~999999999"])
def test_none_or_several_is_an_error(wanted: str) -> None:
    with pytest.raises(SnapshotMissing):
        find(ALL, wanted)


@pytest.mark.parametrize("wanted", ["", "last", "latest~", "latest~-1", "xyz", "latest~٣", "../../etc"])
def test_what_names_nothing_is_bad_input(wanted: str) -> None:
    with pytest.raises(BadInput):
        find(ALL, wanted)


def test_groups() -> None:
    assert {key: [s.id[:2] for s in members] for key, members in group(ALL).items()} == {
        ("h", ("/data",), ()): ["01", "02", "05"],
        ("other", ("/data",), ()): ["03"],
        ("h", ("/data", "/srv"), ()): ["04"],
    }
    assert [*group(ALL, ["tags"])] == [("", (), ("a",)), ("", (), ("a", "b")), ("", (), ())]
    assert [*group(ALL, [])] == [("", (), ())]
    with pytest.raises(BadInput, match="user"):
        group(ALL, ["user"])


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({}, 4),
        ({"paths": ["/data", "/srv"]}, 4),
        ({"host": "other"}, 3),
        ({"host": "nobody"}, None),
        ({"paths": ["/other"]}, None),
        ({"time": Instant.parse("2024-01-01T12:00:00Z")}, 1),
        ({"time": Instant.parse("2023-01-01T00:00:00Z")}, None),
        ({"must_have": ["a"]}, 2),
        ({"must_have": ["lowtide:x"]}, None),
        ({"host": "nobody", "by": ["paths"]}, 4),
        ({"by": ["host", "paths", "tags"], "tags": ["a", "b"]}, 2),
    ],
    ids=str,
)
def test_the_parent_is_the_newest_of_its_group_that_is_not_from_the_future(
    options: dict[str, object], number: int | None
) -> None:
    settings: dict[str, object] = {"time": Instant.parse("2024-02-01T00:00:00Z"), "host": "h", "paths": ["/data"]}
    parent = choose_parent(ALL, **(settings | options))  # type: ignore[arg-type]
    assert (None if parent is None else int(parent.id[:2], 16)) == number


def test_tags_are_split_as_restic_splits_them() -> None:
    assert split_tags("a, b ,c") == ("a", "b", "c")
    assert split_tags("") == ("",)
