"""One task through its Jobs: start, watch, result, retry."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lowtide_operator.api import SnapshotStatus
from lowtide_operator.api.jobs import JobOutcome, JobRecord
from lowtide_operator.api.mover import Mover
from lowtide_operator.planning import actions as act
from lowtide_operator.planning.jobs import dead_holders, drive, end_jobs
from lowtide_operator.planning.movers import describe
from lowtide_operator.planning.naming import job_name
from lowtide_operator.planning.observed import Uid
from lowtide_operator.planning.observed_pods import Container
from lowtide_operator.planning.run import Run
from lowtide_operator.planning.tasks import Task
from tests.property.planning_world import REPOSITORY, Cluster, Fate

MOVER = Mover.model_validate({"retry": {"limit": 2, "backoff": "10s"}, "deadlines": {"start": "1m", "whole": "1h"}})


class Bench:
    """One run, one task, and a cluster in which its Jobs run."""

    def __init__(self, purpose: act.Purpose = act.Purpose.VERDICT, **task: Any) -> None:
        self.cluster = Cluster()
        self.cluster.add_claim("data")
        self.snapshot = self.cluster.add_snapshot()
        self.status = SnapshotStatus()
        self.purpose, self.task = purpose, task

    def run(self) -> Run[SnapshotStatus]:
        return Run(
            "Snapshot",
            self.snapshot.meta,
            self.cluster.world(self.snapshot.meta.uid),
            self.cluster.now,
            self.status,
            None,
        )

    def drive(self, *, apply: bool = True) -> JobRecord | None:
        run = self.run()

        def build(name: str, attempt: int) -> act.MoverJob:
            job = describe(
                run, self.purpose, name, attempt, repository=REPO, repository_id=None, mover=MOVER, policy="db"
            )
            return replace(job, claim=self.task.get("claim", ""))

        record = drive(run, Task(self.purpose, MOVER, build, **self.task))
        self.status = run.status
        if apply:
            for effect in run.effects:
                self.cluster.apply(effect)
        return record

    def to_the_end(self, seconds: float = 5, rounds: int = 200) -> JobRecord:
        for _ in range(rounds):
            record = self.drive()
            if record is not None:
                return record
            self.cluster.step()
            self.cluster.pass_time(seconds)
        raise AssertionError(self.status.jobs)


REPO = Cluster().add_policy(volumes={"claims": ["x"]}).spec.repository  # type: ignore[union-attr]


def test_a_job_is_recorded_before_it_is_made_and_made_by_whoever_comes_next():
    bench = Bench()
    bench.drive(apply=False)
    (record,) = bench.status.jobs
    assert (record.attempt, record.uid, record.outcome) == (1, None, None)
    bench.drive()
    assert [job.meta.name for job in bench.cluster.jobs.values()] == [record.name]


def test_names_are_the_same_for_the_same_run_claim_and_attempt_and_for_nothing_else():
    names = {
        job_name(purpose, Uid(run), claim, attempt, role=role)
        for purpose in act.Purpose
        for run in ("a", "b")
        for claim in ("", "data", "files")
        for attempt in (1, 2)
        for role in ("", "safety")
    }
    assert len(names) == len(act.Purpose) * 2 * 3 * 2 * 2
    assert max(map(len, names)) <= 52
    assert job_name(act.Purpose.BACKUP, Uid("a"), "data", 1) in names


def test_retries_wait_longer_each_time_and_end():
    bench = Bench()
    bench.cluster.fate = lambda job: Fate("failed")
    record = bench.to_the_end(seconds=1)
    assert (record.attempt, record.outcome, record.reason) == (3, JobOutcome.FAILED, "StorageFailed")
    first, second, third = bench.status.jobs
    assert first.ended_at is not None
    assert second.ended_at is not None
    assert second.created_at - first.ended_at >= timedelta(seconds=10)
    assert third.created_at - second.ended_at >= timedelta(seconds=20)


def test_no_retry_starts_after_until():
    bench = Bench()
    bench.task["until"] = bench.cluster.now + timedelta(seconds=8)
    bench.cluster.fate = lambda job: Fate("failed")
    assert bench.to_the_end(seconds=1).attempt == 1


@pytest.mark.parametrize(("seconds", "attempts"), [(100, 1), (300, 2)])
def test_the_next_attempt_waits_until_the_pods_of_the_last_are_gone_or_lost(seconds: int, attempts: int):
    bench = Bench(act.Purpose.BACKUP, claim="data")
    bench.cluster.fate = lambda job: Fate("failed", False)
    for _ in range(2):
        bench.drive()
        bench.cluster.step()
    bench.cluster.stuck.update(bench.cluster.pods)
    assert bench.cluster.stuck
    bench.cluster.fate = lambda job: Fate("hang")
    for _ in range(seconds // 10):
        bench.drive()
        bench.cluster.step()
        bench.cluster.pass_time(10)
    assert len(bench.status.jobs) == attempts
    bench.cluster.stuck.clear()
    bench.cluster.fate = lambda job: Fate()
    assert bench.to_the_end().attempt == 2


def test_after_a_writer_on_a_lost_node_the_next_attempt_waits_for_ever():
    bench = Bench(act.Purpose.RESTORE, claim="data")
    bench.cluster.fate = lambda job: Fate("hang")
    for _ in range(2):
        bench.drive()
        bench.cluster.step()
    (pod,) = bench.cluster.pods.values()
    bench.cluster.stuck.add(pod.meta.uid)
    bench.cluster.delete_pod(pod)
    for _ in range(30):
        bench.drive()
        bench.cluster.step()
        bench.cluster.pass_time(60)
    assert [(record.attempt, record.reason) for record in bench.status.jobs] == [(1, "ResultLost")]
    bench.cluster.stuck.clear()
    for _ in range(3):
        bench.cluster.step()
        bench.drive()
    assert len(bench.status.jobs) == 2


def test_a_job_that_somebody_deleted_is_tried_again():
    bench = Bench()
    bench.cluster.fate = lambda job: Fate("hang")
    for _ in range(3):
        bench.drive()
        bench.cluster.step()
    (job,) = bench.cluster.jobs.values()
    bench.cluster._delete_job(job)
    bench.cluster.fate = lambda job: Fate()
    record = bench.to_the_end()
    assert (record.attempt, record.outcome) == (2, JobOutcome.SUCCEEDED)
    assert bench.status.jobs[0].reason == "ResultLost"


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        pytest.param({"scheduled": False, "unschedulable": "0/3 nodes: taint"}, "0/3 nodes: taint", id="unschedulable"),
        pytest.param(
            {"containers": (Container("mover", image="lowtide:1", waiting="ImagePullBackOff", message="no such"),)},
            "image lowtide:1: ImagePullBackOff: no such",
            id="an image that can't be pulled",
        ),
        pytest.param(
            {"containers": (Container("mover", waiting="CreateContainerConfigError", message='secret "r" not found'),)},
            'secret "r" not found',
            id="a Secret that is not there",
        ),
        pytest.param({}, "waits for a node", id="nothing that anyone says"),
    ],
)
def test_a_mover_that_does_not_start_fails_with_the_reason_of_its_pod(pod: dict[str, Any], words: str):
    bench = Bench()
    bench.cluster.fate = lambda job: Fate("pending")
    bench.drive()
    bench.cluster.step()
    (found,) = bench.cluster.pods.values()
    bench.cluster.pods[found.meta.uid] = replace(found, **{"scheduled": None, "unschedulable": "", **pod})
    bench.drive()
    assert words in (bench.status.jobs[0].message or "")
    bench.cluster.pass_time(61)
    record = bench.drive() or bench.drive()
    assert bench.status.jobs[0].reason == "CannotStart"
    assert words in (bench.status.jobs[0].message or "")
    assert record is None or record.reason == "CannotStart"


def test_without_any_pod_it_says_where_to_look():
    bench = Bench()
    bench.drive()
    bench.cluster.pass_time(61)
    bench.drive()
    bench.drive()
    assert "quota" in (bench.status.jobs[0].message or "")


def test_a_result_of_another_repository_is_a_failure():
    bench = Bench(expected_repository="0" * 64)
    record = bench.to_the_end()
    assert (record.outcome, record.reason) == (JobOutcome.FAILED, "RepositoryChanged")
    assert REPOSITORY[:12] in (record.message or "")


def test_a_result_that_is_cut_is_no_result():
    bench = Bench()
    for _ in range(2):
        bench.drive()
        bench.cluster.step()
    for uid, pod in bench.cluster.pods.items():
        cut = tuple(replace(container, message=container.message[:50]) for container in pod.containers)
        bench.cluster.pods[uid] = replace(pod, containers=cut)
    bench.drive()
    assert bench.status.jobs[0].reason == "ResultLost"


def test_locks_of_movers_that_the_kubelet_saw_end_are_dead():
    bench = Bench()
    bench.cluster.fate = lambda job: Fate("failed")
    bench.to_the_end()
    pods = [record.pod_uid for record in bench.status.jobs]
    assert all(pods)
    assert dead_holders(bench.run()) == tuple(f"cluster-1.shop.{pod}" for pod in pods)


def test_ending_a_job_keeps_a_result_that_is_there():
    bench = Bench(act.Purpose.BACKUP, claim="data")
    for _ in range(3):
        bench.cluster.step()
        if not any(pod.finished for pod in bench.cluster.pods.values()):
            bench.drive()
    run = bench.run()
    assert not end_jobs(run, {"backup"})
    (record,) = run.status.jobs
    assert record.outcome is JobOutcome.SUCCEEDED
    assert record.snapshot_ids[0] in bench.cluster.repository


def test_a_lost_reader_is_given_up_and_a_lost_writer_never():
    for purpose, gone in ((act.Purpose.BACKUP, True), (act.Purpose.RESTORE, False)):
        bench = Bench(purpose, claim="data")
        bench.cluster.fate = lambda job: Fate("hang")
        for _ in range(2):
            bench.drive()
            bench.cluster.step()
        bench.drive()
        bench.cluster.stuck.update(bench.cluster.pods)
        for _ in range(60):
            run = bench.run()
            after = timedelta(minutes=2) if purpose is act.Purpose.BACKUP else None
            done = end_jobs(run, {purpose.value}, lost_after=after)
            bench.status = run.status
            for effect in run.effects:
                bench.cluster.apply(effect)
            bench.cluster.pass_time(10)
        assert done is gone
