"""Which planner is asked: one per kind of observation."""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from lowtide_operator.planning.actions import Plan
from lowtide_operator.planning.going import plan_going
from lowtide_operator.planning.observed import (
    ObservedGoing,
    ObservedOrphans,
    ObservedPolicy,
    ObservedRestore,
    ObservedSnapshot,
)
from lowtide_operator.planning.orphans import plan_orphans
from lowtide_operator.planning.policy import plan_policy
from lowtide_operator.planning.restore import plan_restore
from lowtide_operator.planning.snapshot import plan_snapshot


def plan(
    observed: ObservedPolicy | ObservedSnapshot | ObservedRestore | ObservedOrphans | ObservedGoing, now: datetime
) -> Plan:
    """What to do next about what was observed; `now` is the API server's time."""
    match observed:
        case ObservedPolicy():
            return plan_policy(observed, now)
        case ObservedSnapshot():
            return plan_snapshot(observed, now)
        case ObservedRestore():
            return plan_restore(observed, now)
        case ObservedOrphans():
            return plan_orphans(observed, now)
        case ObservedGoing():
            return plan_going(observed, now)
    assert_never(observed)
