"""How one set of conditions becomes the next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lowtide_operator.api import Condition, Truth
from lowtide_operator.api.conditions import MAX_MESSAGE, find, is_true, with_condition, without_condition

THEN = datetime(2026, 11, 25, 2, 0, tzinfo=UTC)
LATER = THEN + timedelta(minutes=5)


def ready(
    status: Truth, now: datetime, conditions: tuple[Condition, ...] = (), message: str = ""
) -> tuple[Condition, ...]:
    return with_condition(conditions, "Ready", status, "Because", message, now=now, generation=3)


def test_a_new_condition_stands_at_the_end() -> None:
    conditions = with_condition(ready(Truth.TRUE, THEN), "Stalled", Truth.TRUE, "Full", "", now=LATER)
    assert [condition.type for condition in conditions] == ["Ready", "Stalled"]


def test_the_transition_time_moves_only_with_the_status() -> None:
    first = ready(Truth.FALSE, THEN)
    same = ready(Truth.FALSE, LATER, first, "in other words")
    assert (same[0].last_transition_time, same[0].message) == (THEN, "in other words")
    assert ready(Truth.TRUE, LATER, same)[0].last_transition_time == LATER


def test_a_condition_keeps_its_place() -> None:
    conditions = with_condition(ready(Truth.FALSE, THEN), "Stalled", Truth.TRUE, "Full", "", now=THEN)
    assert [condition.type for condition in ready(Truth.TRUE, LATER, conditions)] == ["Ready", "Stalled"]


def test_a_long_message_is_cut_and_says_so() -> None:
    message = ready(Truth.TRUE, THEN, message="x" * 50_000)[0].message
    assert len(message) == MAX_MESSAGE == 32768
    assert message.endswith("…")


def test_what_is_absent_is_not_true() -> None:
    assert find((), "Ready") is None
    assert not is_true((), "Ready")
    assert not is_true(ready(Truth.UNKNOWN, THEN), "Ready")
    assert is_true(ready(Truth.TRUE, THEN), "Ready")


def test_a_condition_is_taken_away() -> None:
    assert without_condition(ready(Truth.TRUE, THEN), "Ready") == ()
    assert without_condition(ready(Truth.TRUE, THEN), "Stalled") == ready(Truth.TRUE, THEN)
