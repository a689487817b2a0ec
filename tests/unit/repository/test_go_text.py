"""Times to the nanosecond and JSON as Go writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from lowtide_engine.errors import RepositoryDamaged
from lowtide_engine.repository.go_text import Instant, go_json


@pytest.mark.parametrize(
    ("text", "seconds", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0, 0),
        ("2017-03-25T18:51:17.652246743+01:00", 1490464277, 652246743),
        ("2021-02-27T23:28:52.9765317+01:00", 1614464932, 976531700),
        ("2020-01-01T00:00:00.5-23:59", 1577923140, 500000000),
        ("0001-01-01T00:00:00Z", -62135596800, 0),
        ("0000-02-29T00:00:00Z", -62162121600, 0),
        ("9999-12-31T23:59:59.999999999Z", 253402300799, 999999999),
        ("2020-01-01t00:00:00z", 1577836800, 0),
        ("2020-01-01T00:00:00.1234567891Z", 1577836800, 123456789),
    ],
)
def test_restics_times(text: str, seconds: int, nanoseconds: int) -> None:
    instant = Instant.parse(text)
    assert (instant.seconds, instant.nanoseconds, str(instant)) == (seconds, nanoseconds, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2020",
        "2020-01-01",
        "2020-01-01T00:00:00",
        "2020-13-01T00:00:00Z",
        "2020-02-30T00:00:00Z",
        "2020-01-01T25:00:00Z",
        "2020-01-01T00:00:00+25:00",
        "2020-01-01 00:00:00Z",
        "٢٠٢٠-01-01T00:00:00Z",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RepositoryDamaged, match="not a time"):
        Instant.parse(text)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), "2024-01-02T03:04:05Z"),
        (datetime(2024, 1, 2, 3, 4, 5, 600000, tzinfo=UTC), "2024-01-02T03:04:05.6Z"),
        (datetime(2024, 1, 2, 3, 4, 5, 1, tzinfo=UTC), "2024-01-02T03:04:05.000001Z"),
        (datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-3, minutes=-30))), "2024-01-02T03:04:05-03:30"),
    ],
)
def test_what_we_write_is_what_go_would(moment: datetime, text: str) -> None:
    instant = Instant.of(moment)
    assert str(instant) == text
    assert instant.datetime() == moment
    assert Instant.parse(text) == instant


def test_instants_compare_whatever_their_zone() -> None:
    here, there = Instant.parse("2020-01-01T01:00:00+01:00"), Instant.parse("2020-01-01T00:00:00Z")
    later = Instant.parse("2020-01-01T00:00:00.000000001Z")
    assert here == there
    assert hash(here) == hash(there)
    assert here < later
    assert max(there, later) is later


def test_a_time_without_a_zone_is_none() -> None:
    with pytest.raises(ValueError, match="zone"):
        Instant.of(datetime(2024, 1, 1))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, True, None, "ü"]}, '{"a":[1,true,null,"ü"]}'),
        ("<&>", '"\\u003c\\u0026\\u003e"'),
        ("\u2028\u2029", '"\\u2028\\u2029"'),
        ('a\n\t"\\', '"a\\n\\t\\"\\\\"'),
        (b"caf\xe9".decode(errors="surrogateescape"), '"caf\\ufffd"'),
    ],
)
def test_json_as_go_writes_it(value: object, text: str) -> None:
    assert go_json(value) == text.encode()
