"""The end of a run whose namespace is being deleted, once the operator's rights there are gone with their RoleBinding.

Kubernetes deletes the RoleBinding beside the run, in no order, and lets nobody make another one. What is in the
namespace goes without us; all that is left to do is to keep nothing.
"""

from __future__ import annotations

from datetime import datetime

from lowtide_operator.planning.actions import Action, Announce, DeleteJob, Plan, Ref, SetFinalizers
from lowtide_operator.planning.naming import API_VERSION, FINALIZER
from lowtide_operator.planning.observed import ObservedGoing

DELETED_WITHIN = 5.0
"""How soon to look again, in seconds, where the namespace's deletion has not come to the run yet."""


def plan_going(observed: ObservedGoing, now: datetime) -> Plan:
    """Take our finalizer off a run that is being deleted, and its release pods away."""
    meta = observed.run
    if meta.deleted is None:
        return Plan(requeue_after=DELETED_WITHIN)
    actions: list[Action] = [
        DeleteJob(Ref("batch/v1", "Job", job.meta.namespace, job.meta.name, job.meta.uid))
        for job in observed.release_jobs
        if job.meta.deleted is None
    ]
    if FINALIZER in meta.finalizers:
        ref = Ref(API_VERSION, observed.kind, meta.namespace, meta.name, meta.uid)
        others = tuple(name for name in meta.finalizers if name != FINALIZER)
        text = (
            "Its namespace is being deleted, and the operator's rights there are gone: it is let go as it is, and what "
            "was stored stays in the repository."
        )
        actions += [
            SetFinalizers(ref, meta.resource_version, others),
            Announce(ref, warning=True, reason="BackupKept", message=text),
        ]
    return Plan(tuple(actions))
