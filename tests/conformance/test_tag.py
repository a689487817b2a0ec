"""Tags are changed as restic changes them, and those that say whose a snapshot is stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowtide_engine.storage import Storage
from lowtide_engine.tag import TagChange, tag
from tests.conformance.actors import Lowtide, Restic
from tests.conformance.pruning import FOREVER, exclusive, storage_at
from tests.conformance.quick import facts, killed_at_each_change, make_repository, twin

pytestmark = pytest.mark.oracle


@pytest.fixture
def tagged(place: str, restic: Restic, tmp_path: Path) -> list[str]:
    """Three snapshots: of two hosts, with tags a,b and c and none; gives their ids."""
    make_repository(place)
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    return [
        restic.backup(source, "--host", host, "--time", f"2020-01-0{day} 00:00:00", *tags)["snapshot_id"]
        for day, host, tags in ((1, "one", ["--tag", "a,b"]), (2, "one", ["--tag", "c"]), (3, "two", []))
    ]


CASES = {
    "set": ["--set", "x,y"],
    "set several": ["--set", "x", "--set", "y"],
    "add": ["--add", "a,new"],
    "remove": ["--remove", "b,c"],
    "remove and add": ["--add", "new", "--remove", "a"],
    "nothing changes": ["--remove", "missing"],
    "of a host": ["--add", "new", "--host", "one"],
    "of a tag": ["--add", "new", "--tag", "c"],
    "of latest": ["--add", "new", "latest"],
}


@pytest.mark.parametrize("case", CASES)
def test_it_leaves_the_snapshots_that_restic_leaves(
    case: str, tagged: list[str], restic: Restic, lowtide: Lowtide
) -> None:
    theirs, ours = twin(restic, lowtide)

    expected = theirs.run("tag", "--json", *CASES[case]).messages("summary")
    changed = ours.run("tag", "--json", *CASES[case])

    assert facts(ours.snapshots()) == facts(theirs.snapshots())
    assert changed.messages("summary") == expected
    assert len(changed.messages("changed")) == expected[0]["changed_snapshots"]
    restic.run("check")


def test_the_first_id_is_kept_over_all_changes(tagged: list[str], lowtide: Lowtide, restic: Restic) -> None:
    for number in range(3):
        (change,) = lowtide.run("tag", "--json", "--add", f"n{number}", "latest").messages("changed")
        assert change["new_snapshot_id"] in restic.list_ids("snapshots")
        assert change["old_snapshot_id"] not in restic.list_ids("snapshots")

    assert restic.snapshots()[-1]["original"] == tagged[2]


def test_setting_no_tag_takes_all_away(tagged: list[str], lowtide: Lowtide, restic: Restic) -> None:
    """As restic's manual has it; restic 0.19.1 itself leaves them."""
    lowtide.run("tag", "--set", "")

    assert [snapshot.get("tags") for snapshot in restic.snapshots()] == [None, None, None]


def test_reserved_tags_are_neither_set_nor_lost(lowtide: Lowtide, tmp_path: Path, place: str) -> None:
    make_repository(place)
    (tmp_path / "file").write_text("content")
    lowtide.backup(tmp_path / "file", "--claim", "data", "--tag", "mine")

    for option in ("--set", "--add", "--remove"):
        ran = lowtide.run("tag", option, "lowtide:claim=data", code=1)
        assert f"Invalid value for '{option}'" in ran.err
    lowtide.run("tag", "--set", "other")
    assert lowtide.snapshots()[0]["tags"] == ["other", "lowtide:claim=data"]
    lowtide.run("tag", "--set", "")
    assert lowtide.snapshots()[0]["tags"] == ["lowtide:claim=data"]


def test_what_makes_no_sense_is_refused_and_an_unknown_id_passed_over(tagged: list[str], lowtide: Lowtide) -> None:
    lowtide.run("tag", code=1)
    lowtide.run("tag", "--set", "a", "--add", "b", code=1)

    ran = lowtide.run("tag", "--add", "b", "abcd", "--json")

    assert "passed over abcd" in ran.err
    assert ran.summary()["changed_snapshots"] == 0


def test_killed_at_any_change_no_snapshot_is_lost_and_the_next_run_ends_it(tagged: list[str], place: str) -> None:
    def work(storage: Storage) -> None:
        with exclusive(storage) as locked:
            found = locked.snapshots()
            for _ in tag(locked, found, found, TagChange(adding=["new"]), FOREVER):
                pass

    def judge() -> None:
        with exclusive(storage_at(Path(place))) as locked:
            firsts = {snapshot.original or snapshot.id for snapshot in locked.snapshots()}
        assert firsts == set(tagged)

    assert killed_at_each_change(Path(place), work, judge) == 6
    with exclusive(storage_at(Path(place))) as locked:
        assert [snapshot.tags for snapshot in locked.snapshots()] == [("a", "b", "new"), ("c", "new"), ("new",)]
