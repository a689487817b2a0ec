"""One execution of a command in a running pod, as the programs of Jobs do it: lowtide-hook and lowtide-stream.

It finds the one pod that the selector means, waits until the container there is ready, and executes the command in it
once: exit code 0 is the only success. What the command writes may be secret: of its standard error the last lines are
quoted, and only where it failed.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
import time
from collections.abc import Sequence
from typing import NoReturn

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import Forbidden, Unreachable
from lowtide_operator.cluster.exec import ExecCut, ExecutingCluster, SlowSink
from lowtide_operator.cluster.protocol import Manifest
from lowtide_operator.planning.naming import is_ours

LOOK_SECONDS = 1.0
QUOTED_LINES = 3
QUOTED = 400
"""How many characters of the standard error of a command that failed are quoted: a tool's last complaint fits."""
KEPT_BYTES = 4096
STILL_RUNNING = "Nothing ends a command from outside: it may still be running there."


class ExecutionFailed(Exception):
    """Why it failed: `reason` as one CamelCase word, and a sentence. `code` is the command's exit code, None where it
    is not known, or not the matter."""

    def __init__(self, reason: str, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.code = code


async def throw_away(data: bytes) -> None:
    """What a command writes to its standard output is nobody's business."""


class Execution:
    """One execution of `command` in `container` ("" for the only one) of the one pod that `selector` finds.

    `stdout` takes what it writes to its standard output; with `to_the_end` it is a failure where the server did not say
    that all of that came. `patience` is how many seconds the pod may take to be the only one, and ready.
    """

    def __init__(
        self,
        cluster: ExecutingCluster,
        namespace: str,
        selector: str,
        container: str,
        command: Sequence[str],
        *,
        stdout: SlowSink = throw_away,
        to_the_end: bool = False,
        patience: float = math.inf,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._selector = selector
        self._container = container
        self._command = command
        self._stdout = stdout
        self._to_the_end = to_the_end
        self._patience = patience
        self._where = ""
        """Where the command is being executed; empty while it certainly is not."""
        self._waits = ExecutionFailed("PodMissing", "no pod was looked for")
        self._said = b""

    async def run(self) -> str:
        """What there is to say of a success. Raises ExecutionFailed, ClusterError, and what `stdout` raises."""
        until = time.monotonic() + self._patience
        while True:
            pod, container = await self._target(until)
            self._where = f"pod {pod}, container {container}"
            began = time.monotonic()
            try:
                ended = await self._cluster.execute(
                    self._namespace, pod, container, self._command, stdout=self._stdout, stderr=self._keep
                )
            except Forbidden as error:
                raise ExecutionFailed("Forbidden", self._not_allowed(error)) from error
            except Unreachable as error:
                self._where = ""
                self._waits = ExecutionFailed("Unreachable", str(error))
                await asyncio.sleep(LOOK_SECONDS)
                continue
            except ExecCut as error:
                raise ExecutionFailed("ExecCut", f"{error} {STILL_RUNNING}{self._quote()}") from error
            if ended.code:
                text = f"The command ended with exit code {ended.code} in {self._where}.{self._quote()}"
                raise ExecutionFailed("CommandFailed", text, ended.code)
            if self._to_the_end and not ended.whole:
                text = "but the connection was not closed in order after it: the end of its output may be missing."
                raise ExecutionFailed("ExecCut", f"The command ended with exit code 0 in {self._where}, {text}")
            return f"The command ended with exit code 0 in {self._where}, after {time.monotonic() - began:.1f} s."

    def give_up(self, reason: str, what: str) -> NoReturn:
        """Say how far it is: raises ExecutionFailed."""
        if self._where:
            raise ExecutionFailed(reason, f"{what}, in {self._where}. {STILL_RUNNING}{self._quote()}") from None
        raise ExecutionFailed(self._waits.reason, f"{what}; the command was not started: {self._waits}") from None

    async def _target(self, until: float) -> tuple[str, str]:
        """The pod and the container, once there is exactly one such pod and the container is ready."""
        while True:
            try:
                return await self._look()
            except ExecutionFailed as failure:
                self._waits = failure
            except Forbidden as error:
                raise ExecutionFailed("Forbidden", self._not_allowed(error)) from error
            except Unreachable as error:
                self._waits = ExecutionFailed("Unreachable", str(error))
            if time.monotonic() >= until:
                self.give_up("TimedOut", f"It was waited for its pod for {self._patience:g} s")
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> tuple[str, str]:
        """Raises ExecutionFailed where the pod isn't there, or isn't ready, yet."""
        bodies = await self._cluster.list(kinds.POD, self._namespace, labels=self._selector)
        pods = [body for body in bodies if _counts(body)]
        if not pods:
            raise ExecutionFailed(
                "PodMissing", f"no pod in namespace {self._namespace} has the labels {self._selector}."
            )
        names = sorted(pod["metadata"]["name"] for pod in pods)
        if len(pods) > 1:
            listed = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
            raise ExecutionFailed(
                "SeveralPods",
                f"{len(pods)} pods have the labels {self._selector} ({listed}), and a command runs in one: name "
                f"more labels, in a StatefulSet statefulset.kubernetes.io/pod-name.",
            )
        containers = [entry["name"] for entry in pods[0]["spec"]["containers"]]
        container = self._container or containers[0]
        if container not in containers or (not self._container and len(containers) > 1):
            asked = f"no container {self._container}" if self._container else "several containers"
            raise ExecutionFailed(
                "ContainerUnknown", f"pod {names[0]} has {asked}: say one of {', '.join(containers)}."
            )
        states = (pods[0].get("status") or {}).get("containerStatuses") or ()
        if not any(entry["name"] == container and entry.get("ready") for entry in states):
            raise ExecutionFailed("PodNotReady", f"container {container} of pod {names[0]} is not ready.")
        return names[0], container

    def _keep(self, data: bytes) -> None:
        self._said = (self._said + data)[-KEPT_BYTES:]

    def _quote(self) -> str:
        """The last lines of the command's standard error, as a sentence."""
        text = self._said.decode(errors="replace")
        lines = [line for line in ("".join(filter(str.isprintable, raw)).strip() for raw in text.splitlines()) if line]
        said = " / ".join(lines[-QUOTED_LINES:])
        if not said:
            return " It wrote nothing to its standard error."
        return f" Its last words: {said if len(said) <= QUOTED else '…' + said[1 - QUOTED :]}"

    def _not_allowed(self, error: Forbidden) -> str:
        return (
            f"The account may not do that in namespace {self._namespace}: look at the chart's value exec.namespaces, "
            f"and at admission policies. {error}"
        )


def _counts(pod: Manifest) -> bool:
    """Whether a pod is one that the selector can mean: neither ending nor ended, and none of Lowtide's own."""
    finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return (
        not finished and "deletionTimestamp" not in pod["metadata"] and not is_ours(pod["metadata"].get("labels") or {})
    )


def end_on_sigterm() -> None:
    """Have SIGTERM cancel the task that calls this."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def add_target(parser: argparse.ArgumentParser) -> None:
    """The options that say which container it is."""
    parser.add_argument("--namespace", required=True, help="the namespace of the pod")
    parser.add_argument("--selector", required=True, help="the labels of the pod, as kubectl takes them")
    parser.add_argument("--container", default="", help="the container (default: the only one)")


def parse_command(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Read the options; `command` is all that follows the first `--`, as it stands."""
    words = list(arguments)
    at = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:at])
    options.command = words[at + 1 :]
    if not options.command:
        parser.error("say the command and its arguments after --")
    return options
