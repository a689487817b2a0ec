"""The models take what the API server takes, refuse what it refuses, and lose nothing between text and value."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide_operator.api import BackupPolicy, Resource, Restore, Snapshot, SnapshotStatus, parse
from lowtide_operator.api.model import Model
from lowtide_operator.api.values import format_duration, format_time, parse_duration, parse_time
from lowtide_operator.errors import InvalidObject
from tests.unit.api import examples, faults

KINDS: dict[str, type[Resource]] = {"BackupPolicy": BackupPolicy, "Snapshot": Snapshot, "Restore": Restore}


def read(body: dict[str, Any]) -> Resource:
    return parse(KINDS[body["kind"]], body)


@pytest.mark.parametrize("body", examples.GOOD.values(), ids=examples.GOOD)
def test_a_good_object_is_the_same_after_being_written_and_read(body: dict[str, Any]) -> None:
    ours = read(body)
    assert read({**ours.to_body(), "kind": body["kind"]}) == ours


@pytest.mark.parametrize(
    "fault", [pytest.param(value, id=name) for name, value in faults.BAD.items() if name not in faults.SERVER_ONLY]
)
def test_what_the_server_refuses_does_not_parse_either(fault: tuple[str, str, Any, str]) -> None:
    base, path, value, _ = fault
    with pytest.raises(InvalidObject) as caught:
        read(faults.changed(examples.GOOD[base], path, value))
    assert caught.value.reason == "InvalidSpec"
    assert "\n" not in str(caught.value)


def test_a_fault_is_told_with_kind_name_place_and_sentence() -> None:
    body = faults.changed(examples.GOOD["the smallest policy"], "spec.quiesce", {"timeout": "1h"})
    with pytest.raises(
        InvalidObject, match=r"^BackupPolicy shop can't be read: spec\.quiesce: timeout must not be longer"
    ):
        read(body)


def test_fields_of_a_newer_version_are_passed_over() -> None:
    body = faults.changed(examples.GOOD["the smallest policy"], "spec.retention", {"daily": 7})
    assert read(body) == read(examples.GOOD["the smallest policy"])


def test_what_was_observed_can_not_be_changed() -> None:
    policy = read(examples.GOOD["the smallest policy"])
    with pytest.raises(ValueError, match="frozen"):
        policy.spec = None  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", examples.STATUS.values(), ids=examples.STATUS)
def test_the_example_statuses_leave_no_field_out(status: Model) -> None:
    assert set(unset(status)) == set()


def unset(model: Model, place: str = "") -> Iterator[str]:
    """The fields in and below `model` that were never set, or are empty; in lists, those of no element. The spec's
    own parts are taken as they are: examples.GOOD shows those."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        here = f"{place}.{name}"
        if name in {"mover", "repository", "quiesce", "capture"} and "resolved" in place:
            continue
        if value is None and not here.endswith("workloads.suspend"):
            yield here
        if value == ():
            yield here
        elements = [each for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, Model)]
        if elements:
            yield from set.intersection(*(set(unset(each, here)) for each in elements))


def test_a_status_that_was_never_written_is_empty() -> None:
    assert SnapshotStatus() == SnapshotStatus.model_validate({})
    assert read(examples.GOOD["the smallest snapshot"]).status == SnapshotStatus()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("2h0m5s", timedelta(hours=2, seconds=5)),
        ("0s", timedelta()),
    ],
)
def test_a_duration_is_read(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize("text", ["", "5", "m", "1d", "-5m", "1.5h", "5 m", "5m\n", "1h1h1h1h", 300, None])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is no duration: write it like 90s, 30m or 1h30m"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_duration_is_the_same_after_being_written_and_read(seconds: int) -> None:
    span = timedelta(seconds=seconds)
    assert parse_duration(format_duration(span)) == span


def test_a_negative_duration_is_not_written() -> None:
    with pytest.raises(ValueError, match="can't be negative"):
        format_duration(timedelta(seconds=-1))


def test_times_are_kept_in_utc() -> None:
    assert parse_time("2026-11-25T03:00:00+01:00") == datetime(2026, 11, 25, 2, tzinfo=UTC)
    assert format_time(parse_time("2026-11-25T03:00:00.9+01:00")) == "2026-11-25T02:00:00Z"


@pytest.mark.parametrize("value", ["2026-11-25T03:00:00", "yesterday", 7, datetime(2026, 11, 25)])
def test_a_time_without_an_offset_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"2026-11-25T03:00:00|yesterday|7|no point in time"):
        parse_time(value)
