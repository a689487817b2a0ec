"""Who used the volumes of a Restore while it wrote them: noted in the condition Quiesced, and told to its end.

What an application wrote meanwhile may be nowhere else. A mover that writes may finish, and none is started any more,
neither for the Restore nor for the way back: workloads that are still held wait for a person's decision there.
"""

from __future__ import annotations

from lowtide_operator.api.conditions import Truth, find
from lowtide_operator.api.restore import ResolvedRestore
from lowtide_operator.planning.actions import Purpose
from lowtide_operator.planning.gone import came_back
from lowtide_operator.planning.hold import is_down
from lowtide_operator.planning.observed import Workload
from lowtide_operator.planning.quiesce import find_held
from lowtide_operator.planning.source import Restoring
from lowtide_operator.planning.starters import started_by
from lowtide_operator.planning.targets import are_whole

INCONSISTENT = "Inconsistent"


def noted_intruders(run: Restoring) -> str:
    """The sentence that says who used the volumes; "" where nobody was seen."""
    quiesced = find(run.status.conditions, "Quiesced")
    return quiesced.message if quiesced is not None and quiesced.reason == INCONSISTENT else ""


def note_intruders(run: Restoring, resolved: ResolvedRestore) -> str:
    """Look who uses the volumes, as long as one is half-written; the sentence as above."""
    known = noted_intruders(run)
    if known or are_whole(run, resolved):
        return known
    found = _started(run)
    for volume in resolved.volumes:
        times = [r.created_at for r in run.status.jobs if (r.purpose, r.claim) == (Purpose.RESTORE, volume.target)]
        if times:
            claim = frozenset({volume.target})
            found += [f"{what} used {volume.target}" for what in came_back(claim, run.world, min(times), run.now)]
    if found:
        text = f"While the volumes were written, {'; '.join(dict.fromkeys(found))}."
        run.condition("Quiesced", Truth.FALSE, INCONSISTENT, text)
    return noted_intruders(run)


def verdict_on(run: Restoring) -> str:
    """What a person is to know and do, once all is written and somebody used it meanwhile."""
    return (
        f"All was written, but the volumes may not hold what was backed up. Look at the data; to have it whole, find "
        f"out who starts the workloads, and make another Restore. {noted_intruders(run)}{what_was_kept(run)}"
    )


def what_was_kept(run: Restoring) -> str:
    """Where a person finds what the volumes held before, as a sentence to append."""
    saved = [f"{v.claim} in {v.safety_snapshot_id[:8]}" for v in run.status.volumes if v.safety_snapshot_id]
    return f" The safety snapshots have what was there before: {', '.join(saved)}." if saved else ""


def _started(run: Restoring) -> list[str]:
    """The stopped workloads whose count somebody raised again, and who did: each as words for a person."""
    ledger = run.status.quiesce
    entries = ledger.workloads if ledger is not None and ledger.released_time is None else ()
    counted = [find_held(run, entry) for entry in entries if entry.replicas is not None]
    return [
        f"{found.kind} {found.meta.name} was started by {started_by(found)}"
        for found in counted
        if isinstance(found, Workload) and not is_down(found)
    ]
