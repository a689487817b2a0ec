"""One thing that a run has done by Jobs: what it takes, and how each Job of it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from lowtide_engine.contract import Result
from lowtide_operator.api.jobs import JobRecord
from lowtide_operator.api.mover import Mover
from lowtide_operator.planning.actions import HookJob, MoverJob, Purpose
from lowtide_operator.planning.observed_pods import MoverProgress


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done once, by as many Jobs as it takes.

    `build` makes the Job of a given name and attempt. `until`: no attempt starts after it. `look_up` makes the task
    that finds what a Job without a result may have stored; without it such a Job is simply tried again, so its
    command must bear that. `expected_repository`: a result from a repository with another id is a failure.
    `on_result` gets each result once, `on_progress` what a running mover tells of itself at each look.
    """

    purpose: Purpose
    mover: Mover
    build: Callable[[str, int], MoverJob | HookJob]
    claim: str = ""
    role: str = ""
    until: datetime | None = None
    look_up: Callable[[JobRecord], Task] | None = None
    expected_repository: str = ""
    on_result: Callable[[JobRecord, Result], None] | None = None
    on_progress: Callable[[JobRecord, MoverProgress], None] | None = None


def look_up_by(
    mover: Mover,
    build: Callable[[str, int], MoverJob],
    until: datetime | None,
    repository_id: str,
    *,
    claim: str = "",
    role: str = "",
) -> Callable[[JobRecord], Task]:
    """For Task.look_up: a Job made by `build` finds what a lost mover of `claim`, or of `role`, stored; a task for each
    attempt."""

    def look_up(record: JobRecord) -> Task:
        return Task(
            Purpose.LOOKUP,
            mover,
            build,
            claim=claim,
            role=f"{role}/attempt-{record.attempt}" if role else f"attempt-{record.attempt}",
            until=until,
            expected_repository=repository_id,
        )

    return look_up
