"""What a run's status says of its copies, and when waiting for one is over."""

from __future__ import annotations

from datetime import datetime

from lowtide_operator.api import SnapshotStatus
from lowtide_operator.api.snapshot import CopyRecord, Resolved, ResolvedVolume
from lowtide_operator.api.values import format_duration
from lowtide_operator.planning.observed import Claim
from lowtide_operator.planning.run import Run

REFUSALS = frozenset({"Forbidden", "Rejected", "NameTaken"})
"""Why the API server did not take a copy: a quota, an admission policy. It will not take it a minute later either."""


def record_of(run: Run[SnapshotStatus], claim: str) -> CopyRecord | None:
    """The record of the copy of `claim`."""
    return next((record for record in run.status.copies if record.claim == claim), None)


def put(run: Run[SnapshotStatus], record: CopyRecord) -> None:
    """Put the record in the place of the one of its claim."""
    others = [known for known in run.status.copies if known.claim != record.claim]
    run.update(copies=tuple(sorted((*others, record), key=lambda known: known.claim)))


def is_held_fast(run: Run[SnapshotStatus], claim: str) -> bool:
    """Whether the copy of `claim` was seen to hold its state."""
    record = record_of(run, claim)
    return record is not None and record.ready_at is not None


def source_of(run: Run[SnapshotStatus], volume: ResolvedVolume) -> Claim | None:
    """The claim that is to be copied. Fails the run where it is not the one that it began with."""
    source = next((claim for claim in run.world.claims if claim.meta.name == volume.claim), None)
    if source is None or source.meta.uid != volume.uid:
        run.fail("ClaimReplaced", f"PersistentVolumeClaim {volume.claim} was deleted or replaced during the run.")
        return None
    return source


def given_up(run: Run[SnapshotStatus], called: str, since: datetime, resolved: Resolved, *names: str) -> bool:
    """Whether the API server does not take a copy: it refused an object of `names`, or the time is over. Then the run
    fails."""
    conditions = (run.known or {}).get("conditions") or ()
    said = next((entry for entry in conditions if entry["type"] == "Ready" and entry["reason"] in REFUSALS), None)
    if said is not None and any(name in said["message"] for name in names):
        run.fail("CopyRefused", f"{called} could not be made: {said['message']}")
        return True
    if is_late(run, since, resolved):
        run.fail(
            "CopyRefused",
            f"{called} could not be made within {span(resolved)}: look at the operator's log, and at quotas and "
            f"admission policies of the namespace.",
        )
        return True
    return False


def is_late(run: Run[SnapshotStatus], since: datetime, resolved: Resolved) -> bool:
    """Whether a step of making copies that began at `since` has had its time."""
    return run.now >= since + resolved.capture.timeout


def span(resolved: Resolved) -> str:
    """How long each step may take, for a person."""
    return f"capture.timeout ({format_duration(resolved.capture.timeout)})"
