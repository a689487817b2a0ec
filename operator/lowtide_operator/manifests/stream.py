"""The container beside the mover of a stream: the command that writes it runs there, or has its output brought from a
pod that runs already.

The two share an empty folder, and nothing else: no volume, no Secret of the repository, no token. The mover makes a
FIFO there and waits; the writer waits for the FIFO, writes the stream into it, and notes last how the command ended,
since the end of a pipe says nothing (lowtide_engine.stream, Handover).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from lowtide_operator.api.stream import ResolvedExec, ResolvedStream, StreamContainer
from lowtide_operator.manifests import security
from lowtide_operator.manifests.command import HANDOVER, container_arguments
from lowtide_operator.planning.actions import MoverJob
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


TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - where every client looks for it
TOKEN_SECONDS = 3600
"""How long a token is good for; the kubelet renews it before. The API server asks for it when a connection begins."""

POD_PATIENCE = timedelta(minutes=2)
"""How long the pod of a command may take to be the only one, and ready: longer than a restart, and not long, since the
next attempt looks again."""

EXEC_REQUESTS = {"cpu": "50m", "memory": "64Mi"}
EXEC_LIMITS = {"memory": "256Mi"}
"""It holds the pieces that are on their way, whatever the size of the stream."""


def writer_container(wanted: StreamContainer, resources: dict[str, Any]) -> dict[str, Any]:
    """The container of a command with an image of its own; where it fails, the end of its log becomes its termination
    message, which the operator reads."""
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


def exec_container(job: MoverJob, wanted: ResolvedExec, image: dict[str, str]) -> dict[str, Any]:
    """The container that has a command executed in a pod: the only one in the pod that has a token, and it has nothing
    of the repository. `image` are the fields that say which image of ours it runs."""
    return {
        "name": WRITER_CONTAINER,
        **image,
        "command": ["lowtide-stream"],
        "args": container_arguments(_exec_arguments(job, wanted)),
        "env": [{"name": "TZ", "value": "UTC"}, {"name": "HOME", "value": HOME}],
        "resources": {"requests": EXEC_REQUESTS, "limits": EXEC_LIMITS},
        "securityContext": security.confined(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            handover_mount(),
            {"name": "writer-scratch", "mountPath": HOME},
            {"name": "token", "mountPath": TOKEN_PATH, "readOnly": True},
        ],
    }


def token_volume() -> dict[str, Any]:
    """What a container needs to ask the API server: a token of the pod's account, for that container alone."""
    token = {"path": "token", "expirationSeconds": TOKEN_SECONDS}
    authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    return {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}, {"configMap": authority}]}}


def _exec_arguments(job: MoverJob, wanted: ResolvedExec) -> list[str]:
    words = [f"--handover={HANDOVER}", f"--namespace={job.namespace}", f"--selector={wanted.selector}"]
    words += [f"--container={wanted.container}"] if wanted.container else []
    # Before the run's own deadlines, which can't tell why nothing came.
    patience = min(POD_PATIENCE, job.mover.deadlines.no_progress / 2).total_seconds()
    patience = min(patience, (job.active_deadline or patience * 2) / 2)
    return [*words, f"--patience={int(patience)}", "--", *wanted.command]


def handover_mount() -> dict[str, Any]:
    """Where both containers have the folder."""
    return {"name": "handover", "mountPath": HANDOVER}


def stream_volumes(stream: ResolvedStream) -> list[dict[str, Any]]:
    """The volumes that a stream's pod has beside a mover's."""
    return [
        {"name": "handover", "emptyDir": {"sizeLimit": HANDOVER_LIMIT}},
        {"name": "writer-scratch", "emptyDir": {"sizeLimit": SCRATCH_LIMIT}},
        *([token_volume()] if stream.exec is not None else ()),
    ]
