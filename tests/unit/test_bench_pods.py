"""The bench's arithmetic of spans."""

from __future__ import annotations

import pytest

from tests.bench.pods import covered


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
