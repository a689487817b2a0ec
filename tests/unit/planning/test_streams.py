"""Streams: what commands write, stored before anything is stopped."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lowtide_engine.contract import Outcome, Result, encode
from lowtide_operator.planning.actions import Purpose
from lowtide_operator.planning.mover_pods import is_writer_awaited, writer_failed_alone, writer_said
from lowtide_operator.planning.observed_pods import Container, Pod
from tests.property.planning_others import streamed
from tests.property.planning_world import START, Cluster, Fate, reasons
from tests.unit.planning.runs import (
    RUN,
    cluster,
    counts,
    failure,
    fates,
    gone,
    jobs_made,
    message,
    outcome,
    status,
    until,
    workload,
)
from tests.unit.planning.test_snapshot_deletion import delete

CONTAINER = {"image": "postgres:16", "command": ["pg_dump", "shop"], "secretName": "db-dumper"}
STREAMS = [{"name": "shop.sql", "container": CONTAINER}, {"name": "roles.sql", "container": CONTAINER}]
CANARY = {"key": "canary", "operator": "DoesNotExist"}
EXEC = {"podSelector": {"matchLabels": {"app": "db"}}, "container": "postgres", "command": ["pg_dump", "shop"]}
EXECUTED = [{"name": "shop.sql", "exec": EXEC}]
REFUSED = Fate("failed", False, "StreamFailed", said="pg_dump: error: connection refused")


def only_streams(**policy: Any) -> Cluster:
    return cluster(**{"streams": STREAMS, "volumes": None, "capture": None, **policy})


def test_streams_are_stored_while_everything_runs_and_the_group_has_them_as_members():
    world = cluster(streams=STREAMS)
    until(world, lambda w: status(w).quiesce is not None)
    assert [stream.outcome for stream in status(world).streams] == ["Stored", "Stored"]
    assert counts(world) == {"db": 1, "web": 3}
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert "All volumes and streams" in message(world)
    (verdict,) = [stored for stored in world.repository.values() if stored.members]
    stored = [stream.snapshot_id for stream in status(world).streams]
    assert len(verdict.members) == 4
    assert set(stored) < set(verdict.members)
    assert [world.repository[str(identity)].tags[-1] for identity in stored] == [
        "lowtide:stream=roles.sql",
        "lowtide:stream=shop.sql",
    ]
    assert (status(world).files, status(world).bytes) == (8, 1200)


def test_nothing_is_stopped_while_a_stream_runs():
    world = cluster(streams=STREAMS)
    world.fate = lambda job: Fate("hang" if job.stream is not None and job.stream.name == "shop.sql" else "ok")
    world.run(RUN, rounds=20)
    assert status(world).quiesce is None
    assert (counts(world), status(world).release) == ({"db": 1, "web": 3}, None)
    assert reasons(status(world).conditions)["Ready"] == ("Unknown", "Streaming")
    fates(world)
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")


@pytest.mark.parametrize(
    ("fate", "reason", "attempts", "words"),
    [
        pytest.param(REFUSED, "StreamFailed", 2, "pg_dump: error: connection refused", id="a command that fails"),
        pytest.param(Fate("failed", False, "StreamEmpty"), "StreamEmpty", 2, "", id="a command that writes nothing"),
        pytest.param(Fate("failed", False, "StorageFull"), "StorageFull", 1, "", id="a storage that is full"),
        pytest.param(Fate("oom", False), "OutOfMemory", 1, "512Mi", id="a mover that is out of memory"),
        pytest.param(Fate("vanish", False), "ResultLost", 2, "", id="a result that is lost, and nothing stored"),
        pytest.param(Fate("ok", False), "ResultLost", 1, "named no snapshot", id="a success without a snapshot"),
        pytest.param(Fate("pending"), "CannotStart", 1, "0/1 nodes are available", id="a pod that can't start"),
    ],
)
def test_a_stream_that_is_not_stored_fails_the_run_and_nothing_was_stopped(
    fate: Fate, reason: str, attempts: int, words: str
):
    mover = {"retry": {"limit": 1, "backoff": "5s"}, "deadlines": {"start": "1m"}}
    world = cluster(streams=STREAMS[:1], mover=mover)
    fates(world, stream=fate)
    world.run(RUN)
    assert outcome(world) == ("False", reason)
    assert "Stream shop.sql was not stored" in message(world)
    assert words in message(world)
    assert (jobs_made(world, "stream"), jobs_made(world, "backup")) == (attempts, 0)
    assert (status(world).quiesce, status(world).verdict_snapshot_id) == (None, None)
    (stream,) = status(world).streams
    assert (stream.outcome, stream.reason, stream.snapshot_id) == ("Failed", reason, None)
    assert world.jobs == {}


def test_a_command_that_could_not_connect_is_tried_again():
    world = only_streams()
    fates(world, stream=REFUSED)
    until(world, lambda w: any(record.reason == "StreamFailed" for record in status(w).jobs))
    fates(world)
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert jobs_made(world, "stream") > 2


def test_a_hung_command_is_ended_by_the_streams_own_timeout():
    world = only_streams(streams=[{**STREAMS[0], "timeout": "3m"}], mover={"retry": {"limit": 0}})
    fates(world, stream=Fate("hang"))
    world.run(RUN, seconds=5, rounds=100)
    assert outcome(world) == ("False", "TooLong")
    assert "The stream's timeout is 3m" in message(world)
    assert world.now - START < timedelta(minutes=10)


def test_what_a_stream_stored_before_its_result_was_lost_is_adopted():
    world = only_streams()
    fates(world, stream=Fate("vanish", True))
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert (jobs_made(world, "stream"), jobs_made(world, "lookup")) == (2, 2)
    found = {stream.name: world.repository[str(stream.snapshot_id)].tags[-1] for stream in status(world).streams}
    assert found == {name: f"lowtide:stream={name}" for name in ("shop.sql", "roles.sql")}


@pytest.mark.parametrize("strategy", ["ScaleDown", "None"])
def test_a_policy_of_streams_alone_stops_nothing(strategy: str):
    world = only_streams(quiesce={"strategy": strategy})
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert "All streams are stored" in message(world)
    assert (status(world).quiesce, status(world).release, status(world).upload) == (None, None, None)
    assert jobs_made(world, "backup") == 0
    assert "PatchWorkload" not in world.log
    first = min(record.created_at for record in status(world).jobs if record.purpose == "stream")
    assert status(world).captured_time == first


def test_streams_are_refused_where_they_are_not_allowed():
    world = only_streams()
    world.streams_allowed = False
    world.run(RUN)
    assert outcome(world) == ("False", "StreamsNotAllowed")
    assert "streams.allow" in message(world)
    assert (status(world).jobs, world.repository) == ((), {})


def test_a_command_in_a_running_pod_is_refused_where_the_namespace_is_not_allowed_before_anything_is_stopped():
    world = cluster(streams=EXECUTED)
    world.exec_allowed = False
    world.run(RUN)
    assert outcome(world) == ("False", "StreamsNotAllowed")
    assert "exec.namespaces" in message(world)
    assert (status(world).jobs, status(world).quiesce, world.repository) == ((), None, {})


def test_each_way_to_run_a_command_needs_its_own_allowance_only():
    world = only_streams(streams=EXECUTED)
    world.streams_allowed = False
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    world = only_streams()
    world.exec_allowed = False
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")


@pytest.mark.parametrize(
    ("where", "selector"),
    [
        ({"workload": {"kind": "StatefulSet", "name": "db"}}, "app=db"),
        ({"podSelector": {"matchLabels": {"app": "db"}, "matchExpressions": [CANARY]}}, "app=db,!canary"),
    ],
)
def test_the_pod_is_found_by_labels_that_are_settled_at_the_start(where: dict[str, Any], selector: str):
    world = only_streams(streams=[{"name": "shop.sql", "exec": {**where, "command": ["pg_dump"]}}])
    db = workload(world, "db")
    world.workloads[db.meta.uid] = replace(db, selector="app=db")
    until(world, lambda w: jobs_made(w, "stream") > 0)
    (stream,) = [mover.job.stream for mover in world.movers.values() if streamed(mover.job) is not None]
    assert (stream.exec.selector, stream.exec.container, stream.exec.command) == (selector, "", ("pg_dump",))
    assert status(world).resolved.streams == (stream,)


def test_a_workload_of_a_stream_that_is_not_there_is_found_out_at_the_start():
    where = {"workload": {"kind": "Deployment", "name": "wbe"}, "command": ["pg_dump"]}
    world = cluster(streams=[{"name": "shop.sql", "exec": where}])
    world.run(RUN)
    assert outcome(world) == ("False", "WorkloadMissing")
    assert "Deployment wbe" in message(world)
    assert "stream shop.sql" in message(world)
    assert status(world).jobs == ()


def test_a_command_in_a_running_pod_that_fails_stops_nothing_and_is_tried_again():
    world = cluster(streams=EXECUTED)
    fates(world, stream=REFUSED)
    world.run(RUN)
    assert outcome(world) == ("False", "StreamFailed")
    assert "connection refused" in message(world)
    assert (jobs_made(world, "stream"), jobs_made(world, "backup")) == (2, 0)
    assert (status(world).quiesce, status(world).verdict_snapshot_id) == (None, None)


def test_a_command_that_may_not_be_executed_is_not_tried_again():
    world = cluster(streams=EXECUTED)
    fates(world, stream=replace(REFUSED, said="the API server answered 403.", code=126))
    world.run(RUN)
    assert outcome(world) == ("False", "CommandRefused")
    assert "answered 403" in message(world)
    assert (jobs_made(world, "stream"), jobs_made(world, "backup")) == (1, 0)


def test_streams_are_stored_one_after_the_other_where_the_repository_is_on_a_claim_of_one_node():
    world = only_streams(repository={"secretName": "repo", "claimName": "vault"})
    world.add_claim("vault")
    at_once = 0
    for _ in range(40):
        world.step()
        world.reconcile(*RUN)
        at_once = max(at_once, len([j for j in world.jobs.values() if world.movers[j.meta.uid].job.stream]))
        world.pass_time(2)
    assert at_once == 1
    assert outcome(world) == ("True", "Complete")


def test_the_policys_edit_changes_no_stream_of_a_run_that_has_begun():
    world = only_streams()
    until(world, lambda w: jobs_made(w, "stream") > 0)
    world.policies["db"] = replace(world.policies["db"], spec=world.add_policy("other").spec)
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert [stream.name for stream in status(world).streams] == ["roles.sql", "shop.sql"]


@pytest.mark.parametrize(
    ("before", "left"),
    [
        pytest.param(lambda w: status(w).end_time is not None, 0, id="after the run"),
        pytest.param(lambda w: len(w.repository) > 0, 0, id="in the middle of it"),
    ],
)
def test_deleting_a_snapshot_forgets_its_streams(before: Any, left: int):
    world = cluster(streams=STREAMS, snapshot=False)
    world.add_snapshot(deletionPolicy="Delete")
    until(world, before)
    delete(world)
    assert "one" not in world.snapshots
    assert len(world.repository) == left


def test_a_stream_that_was_lost_is_found_and_forgotten_with_its_snapshot():
    world = only_streams(snapshot=False, mover={"retry": {"limit": 0}})
    world.add_snapshot(deletionPolicy="Delete")
    world.fate = lambda job: (
        Fate("vanish", True)
        if job.purpose is Purpose.STREAM
        else Fate("failed", False)
        if job.purpose is Purpose.LOOKUP
        else Fate()
    )
    world.run(RUN)
    assert outcome(world) == ("False", "ResultLost")
    assert len(world.repository) > 0
    fates(world)
    delete(world)
    assert ("one" in world.snapshots, world.repository) == (False, {})


# --- the slot's deadline


def scheduled(**policy: Any) -> Cluster:
    """A run for a slot that is over, which must begin within the next minute."""
    world = cluster(startingDeadline="1m", snapshot=False, **policy)
    world.add_snapshot(origin="Schedule", annotations={"lowtide.dev/slot": f"{world.now:%Y-%m-%dT%H:%M:%SZ}"})
    return world


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param({"streams": STREAMS, "volumes": None, "capture": None}, id="streams alone"),
        pytest.param({"streams": STREAMS, "quiesce": {"strategy": "None"}}, id="nothing is stopped"),
        pytest.param({"quiesce": {"strategy": "None"}}, id="volumes, of which nothing is stopped"),
    ],
)
def test_a_run_that_stops_nothing_and_began_in_time_may_go_on_after_its_slots_deadline(policy: dict[str, Any]):
    world = scheduled(**policy)
    fates(world, stream=Fate("hang"), backup=Fate("hang"))
    world.run(RUN, rounds=30)
    assert failure(world) == ""
    fates(world)
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")


def test_streams_that_take_too_long_let_nothing_be_stopped_after_the_slots_deadline():
    world = scheduled(streams=STREAMS)
    fates(world, stream=Fate("hang"))
    world.run(RUN, rounds=30)
    assert outcome(world) == ("False", "DeadlinePassed")
    assert "shop.sql" in message(world)
    assert not gone(world)
    assert counts(world) == {"db": 1, "web": 3}


# --- what the pods tell

FAILED = Result("backup", Outcome.FAILED, "StreamFailed", "the command failed with code 1")


def pods(writer: Container, *, mover_ended: int | None = None) -> tuple[Pod, ...]:
    """One pod whose mover runs, or ended so many seconds after START because the command failed."""
    mover = Container("mover")
    if mover_ended is not None:
        ended = START + timedelta(seconds=mover_ended)
        mover = Container("mover", terminated="Error", exit_code=1, message=encode(FAILED).decode(), finished=ended)
    return (replace(Cluster().add_pod("pod"), containers=(mover, writer)),)


def writer(reason: str = "", code: int | None = None, said: str = "", at: int = 0) -> Container:
    return Container(
        "writer",
        terminated=reason,
        exit_code=code,
        message=said,
        finished=START + timedelta(seconds=at) if reason else None,
    )


@pytest.mark.parametrize(
    ("container", "said"),
    [
        pytest.param(writer(), "", id="it runs"),
        pytest.param(writer("Completed", 0), "", id="it did well"),
        pytest.param(
            writer("Error", 1, "a\nb\n\nc\nd\n"), " Its container ended with code 1: b / c / d", id="last lines"
        ),
        pytest.param(writer("OOMKilled", 137), " Its container ended with code 137 (OOMKilled).", id="out of memory"),
        pytest.param(
            writer("StartError", 128, 'no "sh"'),
            ' Its container ended with code 128 (StartError): no "sh"',
            id="no shell",
        ),
    ],
)
def test_how_a_command_ended_is_told(container: Container, said: str):
    assert writer_said(pods(container)) == said


@pytest.mark.parametrize(
    ("container", "seconds", "awaited"),
    [
        pytest.param(writer(), 5, True, id="it may still be reported"),
        pytest.param(writer(), 15, False, id="not for ever"),
        pytest.param(writer("Error", 1), 5, False, id="it was"),
    ],
)
def test_what_a_command_said_is_waited_for_a_moment(container: Container, seconds: int, awaited: bool):
    assert is_writer_awaited(pods(container, mover_ended=0), FAILED, START + timedelta(seconds=seconds)) is awaited


def test_no_command_is_waited_for_that_the_mover_does_not_blame():
    blameless = replace(FAILED, reason="WrongPassword")
    assert not is_writer_awaited(pods(writer(), mover_ended=0), blameless, START)


@pytest.mark.parametrize(
    ("container", "seconds", "alone"),
    [
        pytest.param(writer(), 600, False, id="it runs"),
        pytest.param(writer("StartError", 128), 30, False, id="the mover may still notice"),
        pytest.param(writer("StartError", 128), 60, True, id="it did not"),
        pytest.param(writer("Completed", 0), 600, False, id="it did well, and the mover still uploads"),
    ],
)
def test_a_command_that_never_began_to_write_is_noticed(container: Container, seconds: int, alone: bool):
    assert writer_failed_alone(pods(container), START + timedelta(seconds=seconds)) is alone


def test_a_run_whose_command_never_began_to_write_fails():
    world = only_streams(mover={"retry": {"limit": 0}}, streams=STREAMS[:1])
    fates(world, stream=Fate("hang"))
    until(world, lambda w: any(m.job.stream for uid, m in w.movers.items() if uid in w.pods))
    for uid, mover in list(world.movers.items()):
        if uid in world.pods and mover.job.stream:
            seconds = int((world.now - START).total_seconds())
            containers = (Container("mover"), writer("StartError", 128, "sh: not found", at=seconds))
            world.pods[uid] = replace(world.pods[uid], containers=containers)
    world.run(RUN, seconds=5, rounds=60)
    assert outcome(world) == ("False", "StreamFailed")
    assert "sh: not found" in message(world)
