"""The keep rules: restic's own table, its corners, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from lowtide_engine.errors import BadInput
from lowtide_engine.repository import Instant
from lowtide_engine.retention import KeepsNothing, Rules, Span, decide
from tests.fixtures import ROOT

NOW = Instant.parse("2026-01-01T00:00:00Z")
CASES = ROOT / "retention" / "cases.json"


@dataclass(frozen=True)
class Item:
    time: Instant
    tags: tuple[str, ...] = ()

    def has_tags(self, tags: Sequence[str]) -> bool:
        return all((tag in self.tags) if tag else not self.tags for tag in tags)


def items(*times: str) -> list[Item]:
    return [Item(Instant.parse(text)) for text in times]


def kept(given: list[Item], rules: Rules, now: Instant = NOW) -> list[str]:
    return [str(decision.item.time) for decision in decide(given, rules, now) if decision.kept]


def cases() -> list[dict[str, Any]]:
    if not CASES.exists():
        return []
    loaded: list[dict[str, Any]] = json.loads(CASES.read_text())["cases"]
    return loaded


def rules_of(policy: dict[str, Any]) -> Rules:
    values: dict[str, Any] = {
        key: Span.parse(value) if key.startswith("within") else value for key, value in policy.items()
    }
    values["tags"] = tuple(tuple(tags) for tags in policy.get("tags", ()))
    return Rules(**values)


def test_the_table_of_restic_is_there() -> None:
    if not CASES.exists():
        pytest.skip("the fixture retention/cases.json is not beside the checkout (shared/fixtures)")
    assert len(cases()) == 27


@pytest.mark.parametrize("case", cases(), ids=lambda case: json.dumps(case["policy"]))
def test_restic_keeps_the_same_for_the_same_reasons(case: dict[str, Any]) -> None:
    listed = json.loads(CASES.read_text())["snapshots"]
    given = [Item(Instant.parse(entry["time"]), tuple(entry["tags"] or ())) for entry in listed]

    decisions = [decision for decision in decide(given, rules_of(case["policy"]), NOW) if decision.kept]

    assert [str(decision.item.time) for decision in decisions] == case["keep"]
    assert [decision.reasons for decision in decisions] == case["reasons"]


def test_nothing_of_nothing_is_kept() -> None:
    assert decide([], Rules(last=1), NOW) == []


def test_days_are_those_of_the_zone_that_a_time_is_written_in() -> None:
    evenings = ("2025-03-01T23:30:00+05:00", "2025-03-02T00:30:00+05:00")

    assert kept(items(*evenings), Rules(daily=2)) == list(reversed(evenings))
    assert kept(items("2025-03-01T18:30:00Z", "2025-03-01T19:30:00Z", "2025-03-01T20:30:00Z"), Rules(daily=1)) == [
        "2025-03-01T20:30:00Z"
    ]


def test_weeks_are_iso_weeks() -> None:
    assert kept(items("2024-12-29T12:00:00Z", "2024-12-30T12:00:00Z", "2025-01-05T12:00:00Z"), Rules(weekly=1)) == [
        "2025-01-05T12:00:00Z"
    ]
    assert (
        len(kept(items("2024-12-30T12:00:00Z", "2025-01-05T12:00:00Z", "2024-12-31T12:00:00Z"), Rules(weekly=5))) == 2
    )


def test_a_span_reaches_back_from_the_newest_that_is_not_in_the_future() -> None:
    given = items("2025-01-01T00:00:00Z", "2025-01-09T00:00:00Z", "2025-01-10T00:00:00Z", "2031-01-01T00:00:00Z")

    assert kept(given, Rules(within=Span(days=2))) == [
        "2031-01-01T00:00:00Z",
        "2025-01-10T00:00:00Z",
        "2025-01-09T00:00:00Z",
    ]


def test_a_span_that_ends_at_a_snapshot_leaves_it_out() -> None:
    assert kept(items("2025-01-09T00:00:00Z", "2025-01-10T00:00:00Z"), Rules(within=Span(days=1))) == [
        "2025-01-10T00:00:00Z"
    ]
    assert len(kept(items("2025-01-09T00:00:00.000000001Z", "2025-01-10T00:00:00Z"), Rules(within=Span(days=1)))) == 2


def test_months_are_counted_on_the_calendar() -> None:
    given = items("2025-03-02T12:00:00Z", "2025-03-03T13:00:00Z", "2025-03-31T12:30:00Z")

    assert kept(given, Rules(within=Span(months=1))) == ["2025-03-31T12:30:00Z", "2025-03-03T13:00:00Z"]


def test_a_span_longer_than_the_calendar_keeps_everything() -> None:
    assert len(kept(items("1999-01-01T00:00:00Z", "2025-01-01T00:00:00Z"), Rules(within=Span(years=9000)))) == 2


def test_everything_in_the_future_is_within_any_span() -> None:
    assert len(kept(items("2030-01-01T00:00:00Z", "2040-01-01T00:00:00Z"), Rules(within=Span(hours=1)))) == 2


@pytest.mark.parametrize(
    ("text", "span"),
    [("1y2m3d4h", Span(1, 2, 3, 4)), ("4h1y", Span(1, 0, 0, 4)), (" 7d ", Span(days=7)), ("", Span())],
)
def test_spans_are_written_as_restic_writes_them(text: str, span: Span) -> None:
    assert Span.parse(text) == span


@pytest.mark.parametrize("text", ["7", "d", "7w", "-1d", "1d x", "1.5d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"span|negative"):
        Span.parse(text)


def test_rules_that_keep_nothing_are_refused() -> None:
    with pytest.raises(KeepsNothing):
        Rules().check()
    with pytest.raises(KeepsNothing):
        Rules(daily=0, within=Span()).check()
    with pytest.raises(BadInput, match="-2 weekly"):
        Rules(weekly=-2).check()
    Rules(last=-1).check()
    Rules(tags=(("keep",),)).check()
