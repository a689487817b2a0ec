"""A command that is executed in a pod of an application: which pod, which container, which words."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lowtide_operator.api.model import Model, Rule
from lowtide_operator.api.quiesce import WorkloadKind, WorkloadRef
from lowtide_operator.api.selectors import LabelSelector

Command = Annotated[
    tuple[Annotated[str, Field(max_length=4096)], ...],
    Field(min_length=1, max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
]
"""A program and its arguments. No shell reads them."""

ContainerName = Annotated[str, Field(min_length=1, max_length=63)]


class PodCommand(Model):
    """A command in a container of one pod."""

    rules = (
        Rule(
            "has(self.podSelector) != has(self.workload)",
            "say by podSelector or by workload which pod it is, and only by one of the two",
            lambda self: (self.pod_selector is None) != (self.workload is None),
        ),
        Rule(
            "!has(self.workload) || self.workload.kind != 'CronJob'",
            "a CronJob has no pod that waits for a command",
            lambda self: self.workload is None or self.workload.kind is not WorkloadKind.CRON_JOB,
        ),
    )

    pod_selector: LabelSelector | None = None
    """The labels of the pod. Exactly one pod must have them, pods that are ending not counted: none, or several, is a
    failure."""
    workload: WorkloadRef | None = None
    """The workload whose pod it is, found by the workload's own selector. It must have one pod."""
    container: ContainerName | None = None
    """The container. Absent: the only one that the pod has."""
    command: Command
    """The program and its arguments. No shell reads them: for one, say `sh`, `-c` and the script."""
