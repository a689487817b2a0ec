"""Commands that a run executes in pods of applications: by which labels their pod is found."""

from __future__ import annotations

from lowtide_operator.api import SnapshotStatus
from lowtide_operator.api.podcommand import PodCommand
from lowtide_operator.api.selectors import selector_text
from lowtide_operator.planning.run import Run


def selector_of(run: Run[SnapshotStatus], command: PodCommand, called: str) -> str:
    """The selector of the pod in which `called` (`hook before-1`) runs, as the API server takes it. Fails the run where
    its workload is not there, or has no pods to find."""
    if command.workload is None:
        return selector_text(command.pod_selector.to_body()) if command.pod_selector is not None else ""
    wanted = command.workload
    for workload in run.world.workloads:
        if (workload.kind, workload.meta.name) == (wanted.kind.value, wanted.name) and workload.selector:
            return workload.selector
    run.fail(
        "WorkloadMissing",
        f"There is no {wanted.kind.value} {wanted.name}, in whose pod {called} is to run: correct the policy.",
    )
    return ""
