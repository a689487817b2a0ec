"""Commands that a run executes in pods of applications, and what came of them."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lowtide_operator.api.model import Model
from lowtide_operator.api.podcommand import Command, PodCommand
from lowtide_operator.api.values import Duration, Timestamp


class OnError(StrEnum):
    """What a hook that fails does to its run."""

    FAIL = "Fail"
    CONTINUE = "Continue"


class Hook(PodCommand):
    """A command that is executed once in a container of one pod."""

    timeout: Duration = timedelta(minutes=5)
    """How long the hook may take, waiting for its pod to be ready included."""
    on_error: OnError = OnError.FAIL
    """Fail: the run fails; a hook in `before` then stops nothing and captures nothing. Continue: the failure is noted,
    and the run goes on."""


HookList = Annotated[tuple[Hook, ...], Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "atomic"})]


class Hooks(Model):
    """Commands that run in pods, one after the other. The chart's value exec.namespaces must allow it."""

    before: HookList = ()
    """After the preflight, when nothing is in the way any more, before the first workload is stopped or the first copy
    is made. After one that fails with onError Fail, the others are not run."""
    after: HookList = ()
    """When the workloads run again: after the capture (with copies: before they are stored), and also where the run
    failed or was deleted after its hooks in `before` had begun. All of them run, whatever became of those before."""


class ResolvedHook(Model):
    """A hook as it was when the run started."""

    name: str
    """`before-1`, `before-2` … and `after-1` …, in the order of the policy."""
    selector: str
    """The selector of its pod, as `kubectl get pods -l` takes it; that of the workload where the policy names one."""
    container: str = ""
    """The container; empty for the only one."""
    command: Command
    """The program and its arguments."""
    timeout: Duration
    """How long it may take."""
    on_error: OnError
    """Fail or Continue."""


class HookOutcome(StrEnum):
    """What came of a hook."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class HookStatus(Model):
    """What came of one hook."""

    name: str
    """`before-1`, `after-1` …"""
    start_time: Timestamp | None = None
    """When it was decided to run it; absent where it was not run (yet)."""
    end_time: Timestamp | None = None
    """When it was seen to have ended."""
    outcome: HookOutcome | None = None
    """Succeeded: its command ended with exit code 0. Failed: anything else, also where nobody knows. Absent before it
    ended."""
    reason: str | None = Field(default=None, max_length=128)
    """Why it failed, as one CamelCase word."""
    message: str | None = Field(default=None, max_length=1024)
    """Where it ran, how long, and where it failed the last lines of what it wrote to its standard error."""
