"""An operator that is killed whenever it has changed something, and started again."""

from __future__ import annotations

import time
from collections.abc import Callable

from lowtide_operator.cluster import kinds
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.world import World


def killed_at_every_change(
    shop: World, fingerprint: Callable[[World], str], *, over: Callable[[], object], within: float
) -> int:
    """SIGKILL whenever `fingerprint`, which is all that the operator may change for the Snapshot `first`, is another
    one; until `over` says so, and no longer than `within` seconds. Gives how often it was killed; none runs then."""
    kills, seen = 0, ""
    deadline = time.monotonic() + within
    while not over():
        assert time.monotonic() < deadline, shop.seen(kinds.SNAPSHOT, "first")
        shop.operator.start(ready=False)
        seen = await_change(shop, fingerprint, seen, within=60)
        shop.operator.kill()
        kills += 1
    return kills


def await_change(shop: World, fingerprint: Callable[[World], str], was: str, *, within: float) -> str:
    """Wait until `fingerprint` is no more what it was, and answer what it is."""
    return wait_for(
        "the operator changes something",
        lambda: now if (now := fingerprint(shop)) != was else None,
        within=within,
        every=0.01,
        seen=lambda: shop.seen(kinds.SNAPSHOT, "first"),
    )
