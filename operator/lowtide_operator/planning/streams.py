"""Store the streams: a mover for each, and beside it a container that runs the command which writes it, or that has it
executed in a pod of an application.

They are stored before anything is stopped: a command that dumps a database needs the database, and one that fails is
known before anything went down.
"""

from __future__ import annotations

from dataclasses import replace

from lowtide_engine.contract import Result
from lowtide_operator.api import SnapshotSpec, SnapshotStatus
from lowtide_operator.api.jobs import JobOutcome, JobRecord
from lowtide_operator.api.snapshot import Resolved, StreamStatus, VolumeOutcome
from lowtide_operator.api.stream import ResolvedExec, ResolvedStream, Stream, StreamExec
from lowtide_operator.api.values import format_duration
from lowtide_operator.planning.actions import MoverJob, Purpose
from lowtide_operator.planning.jobs import drive, may_go_on
from lowtide_operator.planning.movers import describe_for, followed, one_at_a_time
from lowtide_operator.planning.naming import run_tags
from lowtide_operator.planning.observed_pods import MoverProgress
from lowtide_operator.planning.podcommands import selector_of
from lowtide_operator.planning.run import MAX_TEXT, Run
from lowtide_operator.planning.tasks import Task, look_up_by


def resolve_streams(run: Run[SnapshotStatus], streams: tuple[Stream, ...]) -> tuple[ResolvedStream, ...]:
    """The streams as the run goes by them. Fails the run where a workload has no pods to find."""
    return tuple(
        ResolvedStream(
            name=stream.name,
            container=stream.container,
            exec=_resolve_exec(run, stream.name, stream.exec) if stream.exec is not None else None,
            timeout=stream.timeout,
        )
        for stream in streams
    )


def _resolve_exec(run: Run[SnapshotStatus], name: str, command: StreamExec) -> ResolvedExec:
    return ResolvedExec(
        selector=selector_of(run, command, f"the command of stream {name}"),
        container=command.container or "",
        command=command.command,
    )


def store_streams(run: Run[SnapshotStatus], spec: SnapshotSpec, resolved: Resolved) -> bool:
    """Take the next step of storing all streams; whether all are stored. One that is not fails the run."""
    serial = one_at_a_time(resolved.repository, run.world)
    done = True
    for stream in resolved.streams:
        record = drive(run, _task(run, spec, resolved, stream))
        if record is not None:
            _conclude(run, stream, record)
        if run.failing:
            return False
        if record is None or (serial and not may_go_on(run, record)):
            done = False
            if serial:
                break
    return done


def stream_jobs(run: Run[SnapshotStatus]) -> list[JobRecord]:
    """The Jobs of streams that were begun."""
    return [record for record in run.status.jobs if record.purpose == Purpose.STREAM.value]


def _task(run: Run[SnapshotStatus], spec: SnapshotSpec, resolved: Resolved, stream: ResolvedStream) -> Task:
    """Store one stream; what a mover stored before its result was lost is found by its tags."""
    tags = run_tags(run.world.cluster, run.meta.namespace, spec.policy_name, run.meta.uid, stream=stream.name)

    def build(name: str, attempt: int) -> MoverJob:
        until = run.now + stream.timeout if stream.timeout is not None else None
        job = describe_for(run, spec, resolved, Purpose.STREAM, name, attempt, until)
        return replace(job, stream=stream, host=run.meta.namespace, tags=(*tags, *spec.tags))

    def build_look_up(name: str, attempt: int) -> MoverJob:
        return replace(describe_for(run, spec, resolved, Purpose.LOOKUP, name, attempt), tags=tags)

    return Task(
        Purpose.STREAM,
        resolved.mover,
        build,
        role=stream.name,
        look_up=look_up_by(resolved.mover, build_look_up, None, resolved.repository_id or "", role=stream.name),
        expected_repository=resolved.repository_id or "",
        on_result=lambda record, result: _note(run, stream, record, result),
        on_progress=lambda record, told: _follow(run, stream, record, told),
    )


def _follow(run: Run[SnapshotStatus], stream: ResolvedStream, record: JobRecord, told: MoverProgress) -> None:
    """Show how far the mover of a stream is."""
    progress = followed(_known(run, stream).progress, told)
    _put(run, StreamStatus(name=stream.name, attempt=record.attempt, progress=progress))


def _note(run: Run[SnapshotStatus], stream: ResolvedStream, record: JobRecord, result: Result) -> None:
    """Keep what a mover said about its stream."""
    _put(
        run,
        StreamStatus(
            name=stream.name,
            attempt=record.attempt,
            bytes=result.bytes,
            added_bytes=result.added_bytes,
            seconds=round(result.seconds),
        ),
    )


def _conclude(run: Run[SnapshotStatus], stream: ResolvedStream, record: JobRecord) -> None:
    """Settle what came of a stream by its last Job; only a stream that is whole is stored."""
    stored = record.outcome is JobOutcome.SUCCEEDED and bool(record.snapshot_ids)
    reason, message = record.reason, record.message
    if record.outcome is JobOutcome.SUCCEEDED and not record.snapshot_ids:
        reason, message = "ResultLost", "The mover said that it succeeded, and named no snapshot."
    elif reason == "TooLong" and stream.timeout is not None:
        message = f"{message} The stream's timeout is {format_duration(stream.timeout)}."
    _put(
        run,
        _known(run, stream).model_copy(
            update={
                "outcome": VolumeOutcome.STORED if stored else VolumeOutcome.FAILED,
                "attempt": record.attempt,
                "reason": reason,
                "message": message[:MAX_TEXT] if message else None,
                "snapshot_id": record.snapshot_ids[-1] if stored else None,
                "progress": None,
            }
        ),
    )
    if not stored:
        run.fail(reason or "StreamFailed", f"Stream {stream.name} was not stored: {message}")


def _known(run: Run[SnapshotStatus], stream: ResolvedStream) -> StreamStatus:
    return next((known for known in run.status.streams if known.name == stream.name), StreamStatus(name=stream.name))


def _put(run: Run[SnapshotStatus], status: StreamStatus) -> None:
    """Put the stream's status in the place of the one with its name."""
    others = [known for known in run.status.streams if known.name != status.name]
    run.update(streams=tuple(sorted((*others, status), key=lambda known: known.name)))
