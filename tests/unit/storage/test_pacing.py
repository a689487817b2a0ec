"""Limits: what leaves and comes is counted by every storage, and waits as long as the rate says."""

from __future__ import annotations

import pytest

from lowtide_engine.errors import Interrupted
from lowtide_engine.storage.pacing import UNLIMITED, BufferReader, Limited, Metered, Pace, pace_of, read_paced
from tests.fakes import FakeClock


@pytest.mark.parametrize("kibibytes", [1, 100, 100_000])
def test_as_many_bytes_go_as_the_rate_allows(kibibytes: int) -> None:
    clock = FakeClock()
    pace = pace_of(kibibytes, clock)
    assert pace.piece <= max(4096, kibibytes * 1024)
    began = clock.monotonic()
    for _ in range(100):
        pace.take(pace.piece)
    spent = clock.monotonic() - began
    # The last piece is on its way when the clock is read.
    assert spent == pytest.approx(99 * pace.piece / (kibibytes * 1024))


def test_time_that_nobody_used_is_not_saved_up() -> None:
    clock = FakeClock()
    pace = Limited(1000, clock)
    clock.pass_by(3600)
    pace.take(1000)
    pace.take(1000)
    assert clock.slept == [pytest.approx(1.0)]


def test_waiting_ends_when_the_run_is_asked_to_stop() -> None:
    clock = FakeClock()
    pace = Limited(1000, clock)
    pace.take(1000)
    clock.stopped = True
    with pytest.raises(Interrupted):
        pace.take(1)


def test_no_limit_waits_for_nothing() -> None:
    clock = FakeClock()
    assert pace_of(0, clock) is UNLIMITED
    UNLIMITED.take(10**12)
    assert clock.slept == []


@pytest.mark.parametrize("inner", [UNLIMITED, Limited(1000, FakeClock())], ids=["no limit", "a limit"])
def test_bytes_are_counted_whether_there_is_a_limit_or_not(inner: Pace) -> None:
    counted: list[int] = []
    pace = Metered(inner, counted.append)
    assert (pace.limits, pace.piece) == (inner.limits, inner.piece)
    pace.take(10)
    pace.take(2000)
    assert counted == [10, 2000]


def test_bytes_that_wait_are_not_counted_yet() -> None:
    clock = FakeClock()
    pace = Metered(Limited(1000, clock), lambda count: seen.append(clock.monotonic()))
    seen: list[float] = []
    began = clock.monotonic()
    pace.take(1000)
    pace.take(1000)
    assert [moment - began for moment in seen] == [0.0, pytest.approx(1.0)]


def test_a_reader_waits_only_once_it_is_told_to() -> None:
    """Clients read a body twice: to sign it, and to send it."""
    clock = FakeClock()
    data = bytes(range(256)) * 8
    reader = BufferReader(memoryview(data))
    assert reader.read() == data
    assert clock.slept == []
    reader.seek(0)
    reader.pace = Limited(1024, clock)
    assert b"".join(iter(lambda: reader.read(512), b"")) == data
    assert clock.monotonic() - 1000.0 == pytest.approx((len(data) - 512) / 1024)
    assert (reader.tell(), len(reader)) == (len(data), len(data))


def test_reading_stops_where_it_ends() -> None:
    source = [b"abc", b"d", b""]
    assert read_paced(lambda size: source.pop(0), 10, UNLIMITED) == b"abcd"
