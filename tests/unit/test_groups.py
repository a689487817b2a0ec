"""The groups that `make test` runs side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.groups import NO_TESTS, Group, run


def test_a_group_begins_when_those_before_it_have_ended_whatever_became_of_them(tmp_path: Path) -> None:
    built = tmp_path / "built"
    building = Group("building", ["sh", "-c", f"sleep 1; touch '{built}'"])
    failing = Group("failing", ["false"])
    late = Group("late", ["test", "-e", str(built)], after=(building, failing))

    assert run([late, failing, building]) == 1
    assert late.ended() == 0


@pytest.mark.parametrize(
    ("codes", "said"),
    [((0, 0), 0), ((0, NO_TESTS), 0), ((NO_TESTS, NO_TESTS), NO_TESTS), ((0, 2), 2), ((NO_TESTS, 1), 1)],
)
def test_all_is_well_when_each_group_passed_and_one_had_tests(codes: tuple[int, ...], said: int) -> None:
    assert run([Group(f"group {code}", ["sh", "-c", f"exit {code}"]) for code in codes]) == said
