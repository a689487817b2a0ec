"""Streams: what a command writes to its standard output becomes a file of the Snapshot."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lowtide_operator.api.model import Model, Rule
from lowtide_operator.api.mover import Resources
from lowtide_operator.api.podcommand import Command, PodCommand
from lowtide_operator.api.values import Duration, Name, StreamName

Word = Annotated[str, Field(max_length=8192)]
"""One word of a command."""


class StreamContainer(Model):
    """A container beside the mover's own, in the same pod. It sees no volume and nothing of the repository, and gets no
    token for the API."""

    image: Annotated[str, Field(min_length=1, max_length=512)]
    """The image that has the command. It must have a POSIX sh, which runs the command and notes how it ended."""
    command: Annotated[
        tuple[Word, ...], Field(min_length=1, max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ]
    """The command and its arguments. What it writes to its standard output is stored; the end of what it writes to its
    standard error is told where it fails. It runs as a user that is not root, with /tmp as its home. $(NAME) stands for
    a variable of its environment, as in any pod."""
    secret_name: Name | None = None
    """The Secret whose keys are its environment: the address and the password of a database, for example."""
    resources: Resources = Field(default_factory=Resources)
    """Resources of the container."""


class StreamExec(PodCommand):
    """A command in a pod that runs already."""


class Stream(Model):
    """What a command writes, as one file of the Snapshot."""

    rules = (
        Rule(
            "has(self.container) != has(self.exec)",
            "say by container or by exec where the command runs, and only by one of the two",
            lambda self: (self.container is None) != (self.exec is None),
        ),
    )

    name: StreamName
    """The file's name: it is /streams/<name> in the repository."""
    container: StreamContainer | None = None
    """The command, and the image in which it runs, beside the mover. Off unless the chart allows it (streams.allow)."""
    exec: StreamExec | None = None
    """The command, and the pod that runs already in which it is executed: in that of a database, for example, where it
    needs no other image and no password. What it writes to its standard output is stored; the end of what it writes to
    its standard error is told where it fails. It may run again where an attempt failed, and nothing ends it from
    outside. Off unless the chart allows it for the namespace (exec.namespaces)."""
    timeout: Duration | None = None
    """How long the command may take, waiting for its image or its pod included. Absent: mover.deadlines.whole. One that
    writes nothing for mover.deadlines.noProgress is ended before that."""


class ResolvedExec(Model):
    """Where a command is executed, as it was when the run started."""

    selector: str
    """The selector of its pod, as `kubectl get pods -l` takes it; that of the workload where the policy names one."""
    container: str = ""
    """The container; empty for the only one."""
    command: Command
    """The program and its arguments."""


class ResolvedStream(Model):
    """A stream as it was when the run started."""

    name: StreamName
    """The file's name."""
    container: StreamContainer | None = None
    """The command, and the image in which it runs."""
    exec: ResolvedExec | None = None
    """The command, and the pod in which it is executed."""
    timeout: Duration | None = None
    """How long the command may take."""
