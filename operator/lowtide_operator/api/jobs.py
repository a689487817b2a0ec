"""What a run remembers of its Jobs: written before a Job is made, and before it is deleted, so that no result is ever
lost."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from lowtide_operator.api.conditions import MAX_MESSAGE
from lowtide_operator.api.model import Model
from lowtide_operator.api.values import Timestamp


class JobOutcome(StrEnum):
    """How a Job ended: Succeeded, Partial and Failed by its own account, Missing where it left none, Ended where we
    ended it."""

    SUCCEEDED = "Succeeded"
    PARTIAL = "Partial"
    FAILED = "Failed"
    MISSING = "Missing"
    ENDED = "Ended"


class JobRecord(Model):
    """One Job of a run."""

    name: str
    """Its name."""
    purpose: str
    """What it is for: preflight, stream, before-hook, backup, lookup, verdict, after-hook, forget or restore."""
    claim: str = ""
    """The claim that it reads or writes, if any."""
    role: str = ""
    """Tells apart Jobs of one purpose for one claim, such as the backup before a Restore writes; the name of a
    stream or of a hook."""
    attempt: int
    """Which attempt it is, from 1."""
    created_at: Timestamp
    """When it was decided to make it."""
    uid: str | None = None
    """Its uid, once it was seen."""
    ended_at: Timestamp | None = None
    """When it was seen to have ended."""
    outcome: JobOutcome | None = None
    """How it ended; absent while it runs."""
    reason: str | None = None
    """Why it failed, as one CamelCase word."""
    message: str | None = Field(default=None, max_length=1024)
    """Why it failed, as a sentence for a person."""
    pod_uid: str | None = None
    """The uid of its pod, once the kubelet reported its container terminated: a lock that it left is dead."""
    snapshot_ids: tuple[str, ...] = Field(default=(), json_schema_extra={"x-kubernetes-list-type": "atomic"})
    """The ids of the snapshots that it reported."""


class Failure(Model):
    """Why a run fails: kept from the moment it is decided, while workloads are still being put back."""

    reason: str = Field(max_length=128)
    """One CamelCase word."""
    message: str = Field(max_length=MAX_MESSAGE)
    """A sentence for a person."""
    time: Timestamp
    """When it was decided."""
