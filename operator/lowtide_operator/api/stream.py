"""Streams: what a command writes to its standard output becomes a file of the Snapshot."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lowtide_operator.api.model import Model
from lowtide_operator.api.mover import Resources
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


class Stream(Model):
    """What a command writes, as one file of the Snapshot."""

    name: StreamName
    """The file's name: it is /streams/<name> in the repository."""
    container: StreamContainer
    """The command, and the image in which it runs."""
    timeout: Duration | None = None
    """How long the command may take, waiting for its image included. Absent: mover.deadlines.whole. One that writes
    nothing for mover.deadlines.noProgress is ended before that."""
