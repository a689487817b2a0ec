"""What the pods of a mover's Job tell: its result, why it waits, and how the command of a stream ended."""

from __future__ import annotations

from datetime import datetime, timedelta

from lowtide_engine.contract import ContractError, Result, decode
from lowtide_operator.planning.observed_pods import Container, Pod

MOVER_CONTAINER = "mover"
OUR_CONTAINERS = (MOVER_CONTAINER, "hook")
"""Those of our pods' whose termination message is a result."""
WRITER_CONTAINER = "writer"
"""The container beside the mover in which the command of a stream runs."""

STREAM_FAILED = "StreamFailed"
"""The engine's reason where whoever wrote the stream failed."""
COMMAND_REFUSED = "CommandRefused"
"""Ours where that was because the command may not be executed: the next attempt would meet it again."""
NOT_EXECUTABLE = 126
"""The exit code that says so: a shell's, env's, and that of our own program where the API server forbids it."""

WRITER_REPORT = timedelta(seconds=10)
"""How long after a mover that blames the command the kubelet may take to report how that ended."""

LAST_LINES = 3

LOST_MOVER = timedelta(minutes=2)
"""How long after its grace a reading mover that does not go away (its node is lost) may keep anything waiting."""

MOVER_NOTICES = timedelta(minutes=1)
"""How long a mover may take to notice that the command failed: it waits 30 s for the exit code."""


def result_of(pods: tuple[Pod, ...]) -> Result | Container | None:
    """The result of a mover that ended; its container where it left none that can be read; None while none ended."""
    ended: Container | None = None
    for container in (found for name in OUR_CONTAINERS for found in _containers(pods, name)):
        if container.terminated:
            try:
                return decode(container.message)
            except ContractError:
                ended = container
    return ended


def is_writer_awaited(pods: tuple[Pod, ...], result: Result, now: datetime) -> bool:
    """Whether the result blames the command of a stream, and its container may still be seen to end: what it said is
    worth waiting for."""
    if result.reason != STREAM_FAILED or not any(c.terminated == "" for c in _containers(pods, WRITER_CONTAINER)):
        return False
    ends = [c.finished for c in _containers(pods, MOVER_CONTAINER) if c.finished is not None]
    return bool(ends) and now < max(ends) + WRITER_REPORT


def writer_said(pods: tuple[Pod, ...]) -> str:
    """How the command of a stream failed, and the end of what it wrote to its standard error, in words that follow a
    sentence; "" where it did not fail, or there is none."""
    failed = [c for c in _containers(pods, WRITER_CONTAINER) if c.terminated and c.exit_code != 0]
    if not failed:
        return ""
    (writer, *_) = failed
    last = " / ".join([line.strip() for line in writer.message.splitlines() if line.strip()][-LAST_LINES:])
    why = "" if writer.terminated in ("Error", "Completed") else f" ({writer.terminated})"
    return f" Its container ended with code {writer.exit_code}{why}{': ' if last else '.'}{last}"


def why_stream_failed(pods: tuple[Pod, ...]) -> str:
    """The reason of a stream whose writer failed."""
    refused = any(c.terminated and c.exit_code == NOT_EXECUTABLE for c in _containers(pods, WRITER_CONTAINER))
    return COMMAND_REFUSED if refused else STREAM_FAILED


def writer_failed_alone(pods: tuple[Pod, ...], now: datetime) -> bool:
    """Whether the command of a stream failed and the mover does not notice, as where it never began to write."""
    return any(
        c.terminated and c.exit_code != 0 and c.finished is not None and now >= c.finished + MOVER_NOTICES
        for c in _containers(pods, WRITER_CONTAINER)
    )


def is_lost(pod: Pod, now: datetime) -> bool:
    """Whether a pod was deleted and has not gone long after its grace: its node is dead, or cut off."""
    return pod.meta.deleted is not None and now >= pod.meta.deleted + LOST_MOVER


def why_pending(pods: tuple[Pod, ...]) -> str:
    """Why a mover does not run yet."""
    if not pods:
        return "no pod was made for it: look at the Job's events for a quota or an admission policy."
    pod = pods[0]
    if pod.scheduled is False:
        return f"its pod can't be scheduled: {pod.unschedulable}"
    for container in pod.containers:
        if container.waiting not in ("", "ContainerCreating", "PodInitializing"):
            what = f"image {container.image}: " if "Image" in container.waiting else ""
            return f"its container waits: {what}{container.waiting}: {container.message}"
    return "its pod waits for a node, its volumes or its image."


def _containers(pods: tuple[Pod, ...], name: str) -> list[Container]:
    return [container for pod in pods for container in pod.containers if container.name == name]
