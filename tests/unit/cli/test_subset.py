"""Which packs a partial check reads."""

from __future__ import annotations

import random

import pytest

from lowtide_engine.cli.check import parse_subset
from lowtide_engine.subset import Subset

PACKS = [(f"{number:02x}" + "0" * 62, 100) for number in range(256)]


def test_the_parts_of_a_whole_are_the_whole() -> None:
    parts = [Subset(part=part, parts=5).choose(PACKS, random.Random(1)) for part in range(1, 6)]

    assert sorted(pack for part in parts for pack in part) == PACKS
    assert all(parts)


@pytest.mark.parametrize(("text", "count"), [("100%", 256), ("50%", 128), ("0.1%", 1), ("2560", 25), ("1G", 256)])
def test_shares_and_amounts(text: str, count: int) -> None:
    chosen = parse_subset(text).choose(PACKS, random.Random(1))

    assert len(chosen) == len(set(chosen)) == count
    assert set(chosen) <= set(PACKS)


def test_of_nothing_nothing_is_chosen() -> None:
    assert parse_subset("10%").choose([], random.Random(1)) == []


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/257", "0%", "101%", "-1", "", "0", "half", "1/2/3"])
def test_what_is_no_subset(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no|is nothing"):
        parse_subset(text)
