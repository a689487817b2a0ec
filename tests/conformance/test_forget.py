"""`lowtide forget` by rules keeps what restic keeps, for the same reasons, and removes the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lowtide_engine.repository import LockedRepository, Repository, Snapshot, find_password, open_repository
from lowtide_engine.repository.go_text import Instant
from lowtide_engine.storage import SystemClock, find_location, open_storage, options_from_environment
from tests.conformance.actors import PASSWORD, Lowtide, Restic

pytestmark = pytest.mark.oracle

TIMES = [
    "2023-12-31T23:30:00-05:00", "2024-01-01T03:00:00Z", "2024-02-29T12:00:00Z", "2024-03-01T00:30:00+14:00",
    "2024-12-29T12:00:00Z", "2024-12-30T12:00:00Z", "2025-01-05T23:59:59Z", "2025-01-06T00:00:00.5Z",
    "2025-03-30T01:30:00+01:00", "2025-03-30T03:30:00+02:00", "2025-03-30T23:30:00-03:00", "2025-03-31T00:30:00Z",
    "2025-03-31T10:00:00Z", "2025-03-31T10:30:00Z", "2025-03-31T11:15:00Z", "2097-01-01T00:00:00Z",
]  # fmt: skip
# restic leaves the order of equal times to chance: no rule here chooses among them.
RULES = [
    ["--keep-last", "3"],
    ["-H", "4", "-d", "3"],
    ["--keep-daily", "unlimited"],
    ["-w", "3", "-m", "2", "-y", "9"],
    ["--keep-within", "1m"],
    ["--keep-within-daily", "3m1d", "--keep-within-hourly", "2d"],
    ["--keep-within-weekly", "1y", "--keep-within-monthly", "1y2m", "--keep-within-yearly", "2y"],
    ["--keep-tag", "odd,third", "--keep-last", "1"],
    ["--keep-tag", "", "--keep-last", "1"],
    ["--keep-daily", "2", "--group-by", "", "--host", "two"],
    ["--keep-last", "2", "--group-by", "host,tags"],
    ["--keep-last", "1", "--host", "one", "--tag", "odd"],
    ["--keep-last", "1", "--path", "/b", "-g", "paths"],
    ["--keep-last", "1", "--tag", ""],
    ["--keep-last", "1", "--tag", "", "--tag", "odd,third"],
]


def opened(lowtide: Lowtide) -> Repository:
    environment = {"RESTIC_REPOSITORY": lowtide.repository, "RESTIC_PASSWORD": PASSWORD}
    storage = open_storage(find_location(None, environment), options_from_environment(environment))
    return open_repository(storage, find_password(environment), clock=SystemClock())


@pytest.fixture
def filled(lowtide: Lowtide, restic: Restic) -> Lowtide:
    """A repository with snapshots of many times, hosts, paths and tags, all of the same tree."""
    restic.run("init")
    with opened(lowtide) as repository, repository.locked() as locked:
        for number, time in enumerate(TIMES):
            for host, path in (("one", "/a"), ("one", "/b"), ("two", "/a")):
                _store(locked, number, time, host, path)
    return lowtide


def _store(locked: LockedRepository, number: int, time: str, host: str, path: str) -> None:
    tags = [tag for tag, is_so in (("odd", number % 2), ("third", number % 3 == 0)) if is_so]
    locked.save_snapshot(Snapshot(Instant.parse(time), "0" * 64, (path,), hostname=host, tags=tuple(tags)))


def decisions(out: str) -> dict[str, Any]:
    """What each group keeps and why, and what it removes, by the group's key."""
    return {
        json.dumps([group["host"], group["paths"], group["tags"]]): {
            "reasons": {reason["snapshot"]["id"]: reason["matches"] for reason in group["reasons"] or ()},
            "keep": sorted(snapshot["id"] for snapshot in group["keep"] or ()),
            "remove": sorted(snapshot["id"] for snapshot in group["remove"] or ()),
        }
        for group in json.loads(out)
    }


def test_restic_decides_the_same(filled: Lowtide, restic: Restic) -> None:
    for rules in RULES:
        theirs = decisions(restic.run("forget", "--dry-run", "--json", *rules).out)
        ours = decisions(filled.run("forget", "--dry-run", "--json", *rules).out)
        assert ours == theirs, rules
        assert any(group["remove"] for group in ours.values()) or "unlimited" in rules, rules
    assert len(filled.snapshots()) == 3 * len(TIMES)


@pytest.mark.parametrize("words", [(), ("--host", ""), ("--host", "two")], ids=str)
def test_the_host_of_the_environment_is_the_one_that_is_meant(
    filled: Lowtide, restic: Restic, words: tuple[str, ...]
) -> None:
    this = {"RESTIC_HOST": "one"}
    theirs, ours = (
        decisions(actor.run("forget", "--dry-run", "--json", "--keep-last", "2", *words, extra=this).out)
        for actor in (restic, filled)
    )

    assert ours == theirs


def test_what_no_rule_keeps_is_removed(filled: Lowtide, restic: Restic) -> None:
    would = decisions(restic.run("forget", "--dry-run", "--json", "--keep-last", "2", "--keep-monthly", "3").out)

    filled.run("forget", "--keep-last", "2", "--keep-monthly", "3")

    assert {one["id"] for one in restic.snapshots()} == {one for group in would.values() for one in group["keep"]}


def test_a_compact_list_has_a_line_for_each_snapshot(filled: Lowtide) -> None:
    listed = filled.run("forget", "--dry-run", "--keep-last", "2", "--keep-monthly", "3", "--compact").out.splitlines()

    lines = [line for line in listed if line[:8] in {snapshot["short_id"] for snapshot in filled.snapshots()}]
    assert len(lines) == 3 * len(TIMES)
    assert any(line.endswith("last snapshot, monthly snapshot") for line in lines)
    assert not any("/a" in line or "/b" in line for line in lines)


REFUSED = {
    "no rule": [],
    "rules that keep nothing": ["--keep-last", "0", "--keep-within", "0h"],
    "a filter alone": ["--tag", "odd"],
    "everything": ["--unsafe-allow-remove-all"],
    "ids and rules": ["abcd", "--keep-last", "1"],
    "a negative number": ["--keep-last", "-2"],
    "a negative span": ["--keep-within", "-1d"],
    "an unknown group": ["--keep-last", "1", "--group-by", "colour"],
    "a group that loses all": ["--keep-tag", "absent"],
}


def test_unclear_or_dangerous_requests_remove_nothing(filled: Lowtide) -> None:
    for meaning, arguments in REFUSED.items():
        ran = filled.run("forget", *arguments, code=1)
        assert ran.err, meaning
    assert len(filled.snapshots()) == 3 * len(TIMES)


def test_all_that_a_filter_selects_is_removed_where_that_is_said(filled: Lowtide) -> None:
    filled.run("forget", "--unsafe-allow-remove-all", "--host", "two")

    assert {one["hostname"] for one in filled.snapshots()} == {"one"}


def test_a_lock_of_somebody_else_is_respected(filled: Lowtide) -> None:
    with opened(filled) as repository, repository.locked():
        ran = filled.run("forget", "--keep-last", "1", code=11)

    assert "locked" in ran.err
    assert len(filled.snapshots()) == 3 * len(TIMES)
