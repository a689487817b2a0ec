"""`lowtide-hook` (or `python -m lowtide_operator.hook`): the program of a hook's Job.

It finds the one pod that its selector means, waits until the container there is ready, executes the command in it once,
and writes down what came of it: exit code 0 is the only success. What the command writes may be secret. So its standard
output is thrown away, and of its standard error the last lines are quoted, and only where the hook failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from lowtide_engine.contract import RESULT_FILE_VARIABLE, Outcome, Result, encode
from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.connection import NoCluster
from lowtide_operator.cluster.errors import ClusterError, Forbidden, Unreachable
from lowtide_operator.cluster.exec import ExecCut, ExecutingCluster
from lowtide_operator.cluster.protocol import Manifest
from lowtide_operator.planning.naming import is_ours

LOOK_SECONDS = 1.0
QUOTED_LINES = 3
QUOTED = 400
"""How many characters of the standard error of a command that failed are quoted: a tool's last complaint fits."""
KEPT_BYTES = 4096
STILL_RUNNING = "Nothing ends a command from outside: it may still be running there."


class HookFailed(Exception):
    """Why the hook failed: `reason` as one CamelCase word, and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the hook; its result goes to the log and to the file that LOWTIDE_RESULT_FILE names. The exit code is 0 or
    1."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    began = time.monotonic()
    try:
        result = Result("hook", Outcome.OK, "Done", asyncio.run(_run(options)))
    except HookFailed as error:
        result = Result("hook", Outcome.FAILED, error.reason, str(error))
    except ClusterError as error:
        result = Result("hook", Outcome.FAILED, error.reason, str(error))
    except NoCluster as error:
        result = Result("hook", Outcome.FAILED, "NoCluster", str(error))
    document = encode(replace(result, seconds=round(time.monotonic() - began, 3)))
    if path := os.environ.get(RESULT_FILE_VARIABLE):
        Path(path).write_bytes(document)
    print(document.decode(), flush=True)
    return 0 if result.outcome is Outcome.OK else 1


async def _run(options: argparse.Namespace) -> str:
    """What there is to say of a hook that succeeded. Raises HookFailed, ClusterError, NoCluster."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with await ExecutingCluster.connect() as cluster:
        hook = Hook(cluster, options.namespace, options.selector, options.container, options.command)
        try:
            async with asyncio.timeout(options.timeout):
                return await hook.run()
        except TimeoutError:
            hook.give_up("TimedOut", f"It was not done within {options.timeout:g} s")
        except asyncio.CancelledError:
            hook.give_up("Stopped", "Its pod was told to stop")


class Hook:
    """One execution of `command` in `container` ("" for the only one) of the one pod that `selector` finds."""

    def __init__(
        self, cluster: ExecutingCluster, namespace: str, selector: str, container: str, command: Sequence[str]
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._selector = selector
        self._container = container
        self._command = command
        self._where = ""
        """Where the command is being executed; empty while it certainly is not."""
        self._waits = HookFailed("PodMissing", "no pod was looked for")
        self._said = b""

    async def run(self) -> str:
        """What there is to say of a success. Raises HookFailed, ClusterError."""
        while True:
            pod, container = await self._target()
            self._where = f"pod {pod}, container {container}"
            began = time.monotonic()
            try:
                code = await self._cluster.execute(
                    self._namespace, pod, container, self._command, stdout=_throw_away, stderr=self._keep
                )
            except Forbidden as error:
                raise HookFailed("Forbidden", self._not_allowed(error)) from error
            except Unreachable as error:
                self._where = ""
                self._waits = HookFailed("Unreachable", str(error))
                await asyncio.sleep(LOOK_SECONDS)
                continue
            except ExecCut as error:
                raise HookFailed("ExecCut", f"{error} {STILL_RUNNING}{self._quote()}") from error
            if code:
                raise HookFailed(
                    "CommandFailed", f"The command ended with exit code {code} in {self._where}.{self._quote()}"
                )
            return f"The command ended with exit code 0 in {self._where}, after {time.monotonic() - began:.1f} s."

    def give_up(self, reason: str, what: str) -> NoReturn:
        """Say how far the hook is: raises HookFailed."""
        if self._where:
            raise HookFailed(reason, f"{what}, in {self._where}. {STILL_RUNNING}{self._quote()}") from None
        raise HookFailed(self._waits.reason, f"{what}; the command was not started: {self._waits}") from None

    async def _target(self) -> tuple[str, str]:
        """The pod and the container, once there is exactly one such pod and the container is ready."""
        while True:
            try:
                return await self._look()
            except HookFailed as failure:
                self._waits = failure
            except Forbidden as error:
                raise HookFailed("Forbidden", self._not_allowed(error)) from error
            except Unreachable as error:
                self._waits = HookFailed("Unreachable", str(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> tuple[str, str]:
        """Raises HookFailed where the pod isn't there, or isn't ready, yet."""
        bodies = await self._cluster.list(kinds.POD, self._namespace, labels=self._selector)
        pods = [body for body in bodies if _counts(body)]
        if not pods:
            raise HookFailed("PodMissing", f"no pod in namespace {self._namespace} has the labels {self._selector}.")
        names = sorted(pod["metadata"]["name"] for pod in pods)
        if len(pods) > 1:
            listed = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
            raise HookFailed(
                "SeveralPods",
                f"{len(pods)} pods have the labels {self._selector} ({listed}), and a hook runs in one: name "
                f"more labels, in a StatefulSet statefulset.kubernetes.io/pod-name.",
            )
        containers = [entry["name"] for entry in pods[0]["spec"]["containers"]]
        container = self._container or containers[0]
        if container not in containers or (not self._container and len(containers) > 1):
            asked = f"no container {self._container}" if self._container else "several containers"
            raise HookFailed("ContainerUnknown", f"pod {names[0]} has {asked}: say one of {', '.join(containers)}.")
        states = (pods[0].get("status") or {}).get("containerStatuses") or ()
        if not any(entry["name"] == container and entry.get("ready") for entry in states):
            raise HookFailed("PodNotReady", f"container {container} of pod {names[0]} is not ready.")
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
            f"The account of hooks may not do that in namespace {self._namespace}: look at the chart's value "
            f"exec.namespaces, and at admission policies. {error}"
        )


def _counts(pod: Manifest) -> bool:
    """Whether a pod is one that the selector can mean: neither ending nor ended, and none of Lowtide's own."""
    finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return (
        not finished and "deletionTimestamp" not in pod["metadata"] and not is_ours(pod["metadata"].get("labels") or {})
    )


def _throw_away(data: bytes) -> None:
    """What a command writes to its standard output is nobody's business."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the arguments; the command is all that follows the first `--`, as it stands."""
    parser = argparse.ArgumentParser(prog="lowtide-hook", description="Executes a command in one pod, once.")
    parser.add_argument("--hook", required=True, help="the name of the hook")
    parser.add_argument("--namespace", required=True, help="the namespace of the pod")
    parser.add_argument("--selector", required=True, help="the labels of the pod, as kubectl takes them")
    parser.add_argument("--container", default="", help="the container (default: the only one)")
    parser.add_argument("--timeout", required=True, type=float, help="how long all of it may take, in seconds")
    own, separator, command = _cut(list(arguments))
    options = parser.parse_args(own)
    if not command:
        parser.error(f"say the command and its arguments after {separator}")
    options.command = command
    return options


def _cut(arguments: list[str], separator: str = "--") -> tuple[list[str], str, list[str]]:
    at = arguments.index(separator) if separator in arguments else len(arguments)
    return arguments[:at], separator, arguments[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
