"""The container in which the command of a stream runs, beside the mover that stores what it writes.

The two share an empty folder, and nothing else: no volume, no Secret of the repository. The mover makes a FIFO there
and waits; the shell here waits for the FIFO, runs the command into it, and notes last how it ended, since the end of a
pipe says nothing (lowtide_engine.stream, Handover).
"""

from __future__ import annotations

from typing import Any

from lowtide_operator.api.stream import Stream
from lowtide_operator.manifests.command import HANDOVER
from lowtide_operator.planning.mover_pods import WRITER_CONTAINER

HOME = "/tmp"  # noqa: S108 - a mount of the container's own, not a file in a shared folder
HANDOVER_LIMIT = "1Mi"
SCRATCH_LIMIT = "256Mi"

SCRIPT = f"""\
trap 'exit 143' TERM
until [ -p {HANDOVER}/stream ] && [ -w {HANDOVER}/stream ]; do sleep 1; done
"$@" > {HANDOVER}/stream &
wait $!
code=$?
echo "$code" > {HANDOVER}/status.part && mv {HANDOVER}/status.part {HANDOVER}/status
exit "$code"
"""
"""For a POSIX sh, the command as its arguments. `-w`: the FIFO exists a moment before others may write to it. `mv`: the
code appears whole. `trap`: a shell that is a container's first process is not ended by the kubelet's TERM otherwise,
nor while it waits for a command in the foreground; whatever still runs ends with it."""


def writer_container(stream: Stream, resources: dict[str, Any]) -> dict[str, Any]:
    """The container; where it fails, the end of its log becomes its termination message, which the operator reads."""
    wanted = stream.container
    return {
        "name": WRITER_CONTAINER,
        "image": wanted.image,
        "command": ["sh", "-c", SCRIPT, WRITER_CONTAINER],
        "args": list(wanted.command),
        **({"envFrom": [{"secretRef": {"name": wanted.secret_name}}]} if wanted.secret_name is not None else {}),
        "env": [{"name": "HOME", "value": HOME}],
        "resources": resources,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [handover_mount(), {"name": "writer-scratch", "mountPath": HOME}],
    }


def handover_mount() -> dict[str, Any]:
    """Where both containers have the folder."""
    return {"name": "handover", "mountPath": HANDOVER}


def stream_volumes() -> list[dict[str, Any]]:
    """The volumes that a stream's pod has beside a mover's."""
    return [
        {"name": "handover", "emptyDir": {"sizeLimit": HANDOVER_LIMIT}},
        {"name": "writer-scratch", "emptyDir": {"sizeLimit": SCRATCH_LIMIT}},
    ]
