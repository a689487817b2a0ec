"""Sizes, durations, times and tags as restic writes them."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest

from lowtide_engine.cli.values import (
    parse_duration,
    parse_group_by,
    parse_size,
    parse_tags,
    parse_time,
    refuse_reserved,
)
from tests.unit.cli.conftest import Run


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512", 512), ("10k", 10240), ("10K", 10240), ("1.5M", 1572864), ("2g", 2 << 30), ("1TiB", 1 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1x", "1 0", "0x10", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300), ("1h30m", 5400), ("90s", 90), ("250ms", 0.25), ("2h0m1s", 7201), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5m!", "m5"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


def test_a_time_with_a_zone_keeps_it() -> None:
    assert parse_time("2020-01-02T03:04:05Z") == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_time_without_a_zone_is_local() -> None:
    assert parse_time("2012-11-01 22:08:41").tzinfo is not None
    assert parse_time("2012-11-01 22:08:41").replace(tzinfo=None) == datetime(2012, 11, 1, 22, 8, 41)


def test_what_is_no_time() -> None:
    with pytest.raises(ValueError, match="no time"):
        parse_time("yesterday")


def test_tags_are_split_and_stripped() -> None:
    assert parse_tags(" a, b,,c ") == ("a", "b", "", "c")


def test_keys_to_group_by() -> None:
    assert parse_group_by("hosts, path,tag,host") == ("host", "paths", "tags")
    assert parse_group_by("") == ()
    with pytest.raises(ValueError, match="colour"):
        parse_group_by("host,colour")


@pytest.mark.parametrize("command", ["backup", "snapshots"])
def test_an_unknown_key_to_group_by_is_refused(lowtide: Run, command: str) -> None:
    with pytest.raises(click.BadParameter, match="colour"):
        lowtide(command, "--group-by", "colour", "/")


def test_reserved_tags_are_refused_by_name() -> None:
    assert refuse_reserved(["mine", "not-lowtide:x"]) == ["mine", "not-lowtide:x"]
    with pytest.raises(click.BadParameter, match="lowtide:run=1"):
        refuse_reserved(["mine", "lowtide:run=1"])
