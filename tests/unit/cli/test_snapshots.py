"""What `lowtide snapshots --run` says of a run whose mover was lost."""

from __future__ import annotations

from dataclasses import replace

from lowtide_engine.cli.snapshots import newest_is_partial
from lowtide_engine.repository import Instant, Snapshot
from lowtide_engine.standing import PARTIAL_TAG

WHOLE = Snapshot(time=Instant.parse("2026-11-25T02:00:00Z"), tree="0" * 64, paths=("/volumes/data",))
PARTIAL = replace(WHOLE, tags=(PARTIAL_TAG,))


def test_only_the_newest_counts() -> None:
    assert newest_is_partial([WHOLE, PARTIAL])
    assert not newest_is_partial([PARTIAL, WHOLE])
    assert not newest_is_partial([])
