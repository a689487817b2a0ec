"""Schedules: spread, names, time zones, daylight saving."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowtide_operator.planning.schedule import NAMED, Schedule, ScheduleError, parse_schedule, snapshot_name


def parsed(text: str, zone: str = "UTC", namespace: str = "shop", name: str = "db") -> Schedule:
    return parse_schedule(text, zone, namespace, name)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize("text", sorted(NAMED))
def test_a_named_schedule_is_the_same_at_each_look(text):
    assert parsed(text) == parsed(text)


@pytest.mark.parametrize(
    ("text", "shortest", "longest"),
    [("@hourly", 1, 1), ("@daily", 24, 24), ("@weekly", 7 * 24, 7 * 24), ("@monthly", 28 * 24, 31 * 24)],
)
def test_a_named_schedule_comes_as_often_as_its_name_says(text, shortest, longest):
    schedule = parsed(text)
    first = schedule.after(utc(2026, 1, 1))
    second = schedule.after(first)
    assert timedelta(hours=shortest) <= second - first <= timedelta(hours=longest)


def test_policies_are_spread_over_the_hour():
    minutes = {parsed("H * * * *", name=f"policy-{number}").expression for number in range(200)}
    assert len(minutes) > 45


def test_the_namespace_counts_for_the_spread():
    assert len({parsed("H H * * *", namespace=f"team-{number}").expression for number in range(20)}) > 15


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("H(10-19) 2 * * *", lambda at: 10 <= at.minute <= 19 and at.hour == 2),
        ("H H(1-4) * * *", lambda at: 1 <= at.hour <= 4),
        ("0 0 H * *", lambda at: 1 <= at.day <= 28),
    ],
)
def test_h_stays_within_its_range(text, inside):
    for number in range(50):
        assert inside(parsed(text, name=f"p{number}").after(utc(2026, 5, 5)))


def test_h_with_a_step_comes_every_step():
    schedule = parsed("H/15 * * * *")
    slots = [schedule.after(utc(2026, 1, 1))]
    for _ in range(8):
        slots.append(schedule.after(slots[-1]))
    assert {later - earlier for earlier, later in pairwise(slots)} == {timedelta(minutes=15)}


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        pytest.param("0 0 30 2 *", "UTC", id="the 30th of February never comes"),
        pytest.param("61 * * * *", "UTC", id="a minute beyond 59"),
        pytest.param("* * * *", "UTC", id="four fields"),
        pytest.param("@sometimes", "UTC", id="a name that is not known"),
        pytest.param("0 2 * * *", "Middle/Earth", id="a time zone that is not known"),
        pytest.param("H(30-10) * * * *", "UTC", id="a range that ends before it begins"),
        pytest.param("H/0 * * * *", "UTC", id="a step of nothing"),
        pytest.param("H(0-5)/9 * * * *", "UTC", id="a step longer than its range"),
        pytest.param("H(70-80) * * * *", "UTC", id="a hashed minute beyond 59"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused_in_a_sentence(text, zone):
    with pytest.raises(ScheduleError, match=r"^The .*\.$"):
        parsed(text, zone)


def test_a_fixed_time_in_the_gap_of_spring_runs_once_after_the_gap():
    schedule = parsed("30 2 * * *", "Europe/Berlin")
    first = schedule.after(utc(2026, 3, 28, 12))
    second = schedule.after(first)
    assert first == utc(2026, 3, 29, 1, 0)
    assert second == utc(2026, 3, 30, 0, 30)


def test_a_fixed_time_in_the_repeated_hour_of_autumn_runs_once():
    schedule = parsed("30 2 * * *", "Europe/Berlin")
    first = schedule.after(utc(2026, 10, 24, 12))
    assert first == utc(2026, 10, 25, 0, 30)
    for minute in range(0, 120, 7):
        moment = utc(2026, 10, 25, 0, 31) + timedelta(minutes=minute)
        assert schedule.after(moment) == utc(2026, 10, 26, 1, 30)
        assert schedule.latest(moment) == first


def test_an_hourly_schedule_runs_in_both_repeated_hours():
    schedule = parsed("10 * * * *", "Europe/Berlin")
    assert schedule.after(utc(2026, 10, 25, 0, 10)) == utc(2026, 10, 25, 1, 10)


TEXTS = (
    "30 2 * * *",
    "10 * * * *",
    "*/7 * * * *",
    "0 3 * * SUN",
    "15 1 29 2 *",
    "0 0,2,3 L * *",
    "@weekly",
    "@monthly",
)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(TEXTS),
    st.sampled_from(ZONES),
    st.datetimes(datetime(2024, 1, 1), datetime(2031, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC)),
)
def test_after_and_latest_agree_about_every_slot(text, zone, moment):
    schedule = parsed(text, zone)
    latest, following = schedule.latest(moment), schedule.after(moment)
    assert latest <= moment < following
    assert schedule.after(latest) == following
    assert schedule.latest(following) == following
    assert schedule.latest(following - timedelta(seconds=1)) == latest


def test_a_snapshot_is_named_after_its_slot_in_utc():
    slot = parsed("30 2 * * *", "Europe/Berlin").after(utc(2026, 7, 1))
    assert snapshot_name("db", slot) == "db-202607010030"
