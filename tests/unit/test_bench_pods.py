"""The bench's arithmetic of spans."""

from __future__ import annotations

import pytest

from tests.bench.pods import BEFORE_ITS_CLOCK, Life, covered


@pytest.mark.parametrize(
    ("spans", "length"),
    [
        ([], 0),
        ([(1, 3)], 2),
        ([(1, 3), (5, 6)], 3),
        ([(5, 6), (1, 3), (2, 4)], 4),
        ([(1, 9), (2, 3)], 8),
        ([(3, 1)], 0),
        ([(3, 1), (2, 4)], 2),
    ],
)
def test_overlapping_spans_count_once(spans: list[tuple[float, float]], length: float) -> None:
    assert covered(spans) == length


@pytest.mark.parametrize(
    ("life", "began"),
    [
        (Life(1, "backup", running=3, ended=7, worked=2), 5 - BEFORE_ITS_CLOCK),
        (Life(1, "backup", running=3, ended=7, worked=9), 1),
        (Life(1, "backup", running=3, worked=2), 3),
        (Life(1, running=3, ended=7), 3),
        (Life(1), None),
    ],
)
def test_a_mover_began_as_long_before_its_end_as_it_worked(life: Life, began: float | None) -> None:
    assert life.began == began
