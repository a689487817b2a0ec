"""Which part of the packs a check reads."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subset:
    """Which packs are read: the `part`th of `parts` (by the name's first byte), a fraction, or a number of bytes."""

    part: int = 1
    parts: int = 1
    fraction: float = 1.0
    size: int = 0

    def choose(self, packs: Sequence[tuple[str, int]], source: random.Random) -> list[tuple[str, int]]:
        """The chosen of `packs` (name, size), in their order; at least one where there are any."""
        if self.parts > 1:
            return [(name, size) for name, size in packs if int(name[:2], 16) % self.parts == self.part - 1]
        fraction = self.fraction
        if self.size:
            fraction = self.size / max(1, sum(size for _, size in packs))
        if fraction >= 1 or not packs:
            return list(packs)
        count = max(1, int(len(packs) * fraction))
        return [packs[position] for position in sorted(source.sample(range(len(packs)), count))]
