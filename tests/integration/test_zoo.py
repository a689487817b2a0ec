"""What a run does with each kind of workload: rows of docs/reference/workloads.md, against the real controllers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from lowtide_operator.cluster import kinds
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.pens import Pen
from tests.integration.operator_world.world import PATIENCE, World

pytestmark = pytest.mark.apiserver


@pytest.fixture
def zoo(shared: World) -> World:
    """One namespace, one operator; every test has a pen of its own in it."""
    return shared


def cron_job(pen: Pen, name: str, *, suspend: bool) -> dict[str, Any]:
    pod = {
        "restartPolicy": "Never",
        "containers": [{"name": "main", "image": "played"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": pen.claim}}],
    }
    job = {"spec": {"template": {"spec": pod}}}
    spec = {"schedule": "0 0 1 1 *", "suspend": suspend, "jobTemplate": job}
    return {"metadata": {"name": name, "namespace": pen.world.namespace}, "spec": spec}


@pytest.mark.zoo(
    "deployment",
    "statefulset",
    "statefulset-ondelete",
    "statefulset-parallel",
    "statefulset-partition",
    "replicaset",
    "zero",
    "cronjob",
    "cronjob-suspended",
)
def test_every_kind_that_can_be_stopped_is_and_comes_back_as_it_was(zoo: World) -> None:
    pen = Pen.build(zoo, "kinds")
    counted = {
        pen.add(kinds.DEPLOYMENT, "kinds-deployment", replicas=2): (kinds.DEPLOYMENT, 2),
        pen.add(kinds.DEPLOYMENT, "kinds-zero", replicas=0): (kinds.DEPLOYMENT, 0),
        pen.add(kinds.STATEFUL_SET, "kinds-plain"): (kinds.STATEFUL_SET, 1),
        pen.add(kinds.STATEFUL_SET, "kinds-ondelete", updateStrategy={"type": "OnDelete"}): (kinds.STATEFUL_SET, 1),
        pen.add(kinds.STATEFUL_SET, "kinds-parallel", replicas=3, podManagementPolicy="Parallel"): (
            kinds.STATEFUL_SET,
            3,
        ),
        pen.add(
            kinds.STATEFUL_SET,
            "kinds-partition",
            replicas=2,
            updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 1}},
        ): (kinds.STATEFUL_SET, 2),
        pen.add(kinds.REPLICA_SET, "kinds-replicaset", replicas=2): (kinds.REPLICA_SET, 2),
    }
    suspended = {"kinds-nightly": False, "kinds-idle": True}
    for name, suspend in suspended.items():
        zoo.api.create(kinds.CRON_JOB, cron_job(pen, name, suspend=suspend))
    before = zoo.pods()

    pen.snapshot()
    ledger = pen.await_down()
    written = {entry["name"]: entry.get("replicas", entry.get("suspend")) for entry in ledger["workloads"]}
    assert written == {name: count for name, (_, count) in counted.items()} | suspended
    status = pen.await_ready()

    for name, (kind, count) in counted.items():
        assert pen.replicas(kind, name) == count
        pen.await_running(kind, name, count)
        pen.assert_unmarked(kind, name)
    for name, suspend in suspended.items():
        assert pen.get(kinds.CRON_JOB, name)["spec"]["suspend"] is suspend
        pen.assert_unmarked(kinds.CRON_JOB, name)
    assert {entry["state"] for entry in status["quiesce"]["workloads"]} == {"Released"}
    others = {pod for pod in before if pod in zoo.pods()}
    assert len(others) == 3, (
        "all pods that use the claim were replaced; the shop's three, which do not, were left alone"
    )


@pytest.mark.zoo("daemonset")
def test_a_daemon_set_is_refused(zoo: World) -> None:
    pen = Pen.build(zoo, "agents")
    body = pen.add(kinds.DEPLOYMENT, "agents-web", replicas=1)
    generation = pen.get(kinds.DEPLOYMENT, body)["metadata"]["generation"]
    daemons = pen.get(kinds.DEPLOYMENT, body)["spec"]
    spec = {"selector": {"matchLabels": {"app": "agents"}}, "template": daemons["template"]}
    spec["template"]["metadata"]["labels"] = {"app": "agents"}
    zoo.api.create(kinds.DAEMON_SET, {"metadata": {"name": "agents", "namespace": zoo.namespace}, "spec": spec})
    pen.snapshot()
    assert "DaemonSet agents uses a volume of the group and can't be scaled down" in pen.await_failed(
        "WorkloadNotStoppable"
    )
    pen.assert_untouched(kinds.DEPLOYMENT, "agents-web", generation, 1)


def bare_pod(pen: Pen, name: str, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": pen.world.namespace, **metadata},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "played"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": pen.claim}}],
        },
    }


@pytest.mark.zoo("pod")
def test_a_pod_without_a_controller_is_refused(zoo: World) -> None:
    pen = Pen.build(zoo, "shell")
    zoo.api.create(kinds.POD, bare_pod(pen, "shell"))
    pen.snapshot()
    assert "Pod shell uses shell-data and no controller would start it again" in pen.await_failed("BarePod")
    assert "deletionTimestamp" not in pen.get(kinds.POD, "shell")["metadata"]


@pytest.mark.zoo("pod-ended")
def test_nothing_is_stopped_for_a_pod_whose_end_nobody_recorded(zoo: World) -> None:
    pen = Pen.build(zoo, "rejected", quiesce={"timeout": "3s"})
    pen.add(kinds.DEPLOYMENT, "rejected-web")
    generation = pen.get(kinds.DEPLOYMENT, "rejected-web")["metadata"]["generation"]
    zoo.api.create(kinds.POD, bare_pod(pen, "rejected"))
    wait_for("it runs", lambda: pen.get(kinds.POD, "rejected")["status"].get("phase") == "Running", within=PATIENCE)
    lost = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "containerStatuses": None}
    zoo.api.patch(kinds.POD, zoo.namespace, "rejected", {"status": lost}, "status")
    pen.snapshot()
    assert f"kubectl -n {zoo.namespace} delete pod rejected" in pen.await_failed("PodInTheWay")
    pen.assert_untouched(kinds.DEPLOYMENT, "rejected-web", generation, 1)
    zoo.api.delete(kinds.POD, zoo.namespace, "rejected")
    pen.snapshot("rejected-again")
    pen.await_ready("rejected-again")


@pytest.mark.zoo("other-controller")
def test_what_another_controller_owns_is_refused_and_its_owner_named(zoo: World) -> None:
    """A Deployment and a pod of custom resources, as operators for caches and databases make them."""
    pen = Pen.build(zoo, "owned")
    owner = {"apiVersion": "example.org/v1", "name": "red", "uid": zoo.namespace, "controller": True}
    pen.add(kinds.DEPLOYMENT)
    zoo.api.patch(
        kinds.DEPLOYMENT, zoo.namespace, "owned", {"metadata": {"ownerReferences": [{**owner, "kind": "Cache"}]}}
    )
    zoo.api.create(kinds.POD, bare_pod(pen, "owned-pod", ownerReferences=[{**owner, "kind": "Cluster"}]))
    pen.snapshot()
    said = pen.await_failed("WorkloadManaged")
    assert "Deployment owned is managed by Cache red (example.org/v1)" in said
    assert "Pod owned-pod uses owned-data and is managed by Cluster red (example.org/v1)" in said
    assert pen.replicas(kinds.DEPLOYMENT) == 1


@pytest.mark.zoo("statefulset-delete-claims")
def test_a_stateful_set_that_would_delete_its_claims_is_never_scaled(zoo: World) -> None:
    pen = Pen.build(zoo, "losing")
    pen.add(kinds.STATEFUL_SET, persistentVolumeClaimRetentionPolicy={"whenScaled": "Delete", "whenDeleted": "Retain"})
    generation = pen.get(kinds.STATEFUL_SET)["metadata"]["generation"]
    pen.snapshot()
    assert "set whenScaled to Retain first" in pen.await_failed("ClaimsWouldBeDeleted")
    pen.assert_untouched(kinds.STATEFUL_SET, "losing", generation, 1)


@pytest.mark.zoo("statefulset-update-waits")
@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("canary", {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}),
        ("staged", {"type": "OnDelete"}),
    ],
)
def test_an_update_that_is_kept_back_is_not_rolled_out_by_a_backup(
    zoo: World, name: str, strategy: dict[str, Any]
) -> None:
    """A StatefulSet that was at 0 starts every pod with the new revision, whatever its strategy (measured)."""
    pen = Pen.build(zoo, name)
    pen.add(kinds.STATEFUL_SET, replicas=2, updateStrategy=strategy)
    updated = {"template": {"metadata": {"annotations": {"version": "2"}}}}
    zoo.api.patch(kinds.STATEFUL_SET, zoo.namespace, name, {"spec": updated})
    pen.await_running(kinds.STATEFUL_SET, name, 2)
    pen.snapshot()
    assert "finish or undo the update first" in pen.await_failed("UpdateWaiting")
    pen.assert_untouched(kinds.STATEFUL_SET, name, 2, 2)
    zoo.api.patch(kinds.STATEFUL_SET, zoo.namespace, name, {"spec": {"updateStrategy": ROLL_OUT}})
    wait_for(
        "it is updated", lambda: pen.get(kinds.STATEFUL_SET)["status"].get("updatedReplicas") == 2, within=PATIENCE
    )
    pen.await_running(kinds.STATEFUL_SET, name, 2)
    pen.snapshot(f"{name}-updated")
    pen.await_ready(f"{name}-updated")


def pods(pen: Pen) -> set[str]:
    """The names of the pods of the pen's workload."""
    return {pod["metadata"]["name"] for pod in pen.world.api.list(kinds.POD, pen.world.namespace, f"app={pen.name}")}


def versions(pen: Pen) -> list[str]:
    """Which template each pod of the pen's workload was made from."""
    found = pen.world.api.list(kinds.POD, pen.world.namespace, f"app={pen.name}")
    return sorted((pod["metadata"].get("annotations") or {}).get("version", "1") for pod in found)


def update(pen: Pen, version: str = "2", kind: kinds.Kind = kinds.DEPLOYMENT, **spec: Any) -> None:
    """Change the template; version 1 is the one that the pen began with."""
    template = {"metadata": {"annotations": {"version": None if version == "1" else version}}}
    pen.world.api.patch(kind, pen.world.namespace, pen.name, {"spec": {"template": template, **spec}})


@contextlib.contextmanager
def broken(zoo: World) -> Iterator[None]:
    """No pod of version 2 becomes ready."""
    zoo.kubelet.held_back = lambda pod: (pod["metadata"].get("annotations") or {}).get("version") == "2"
    try:
        yield
    finally:
        zoo.let_movers_start()


GENTLY = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


@pytest.mark.zoo("deployment-paused")
def test_a_rollout_that_is_paused_half_way_is_not_finished_by_a_backup(zoo: World) -> None:
    pen = Pen.build(zoo, "halfway")
    pen.add(kinds.DEPLOYMENT, replicas=3, strategy=GENTLY)
    update(pen, minReadySeconds=500)
    wait_for("one pod is new", lambda: pen.get(kinds.DEPLOYMENT)["status"].get("updatedReplicas") == 1, within=PATIENCE)
    zoo.api.patch(kinds.DEPLOYMENT, zoo.namespace, "halfway", {"spec": {"paused": True}})
    pen.await_running(kinds.DEPLOYMENT, "halfway", 4)
    generation = pen.get(kinds.DEPLOYMENT)["metadata"]["generation"]
    pen.snapshot()
    assert "finish or undo the update first" in pen.await_failed("UpdateWaiting")
    pen.assert_untouched(kinds.DEPLOYMENT, "halfway", generation, 3)
    assert versions(pen) == ["1", "1", "1", "2"]


@pytest.mark.zoo("deployment-paused")
def test_what_is_paused_before_its_rollout_comes_back_as_it_was(zoo: World) -> None:
    pen = Pen.build(zoo, "frozen")
    pen.add(kinds.DEPLOYMENT, replicas=2)
    update(pen, paused=True)
    pen.await_running(kinds.DEPLOYMENT, "frozen", 2)
    before = pods(pen)
    pen.snapshot()
    pen.await_ready()
    pen.await_running(kinds.DEPLOYMENT, "frozen", 2)
    assert (len(before), before & pods(pen)) == (2, set())
    assert versions(pen) == ["1", "1"]


@pytest.mark.zoo("deployment-paused")
def test_a_revision_that_was_undone_does_not_come_back_by_a_backup(zoo: World) -> None:
    """With none at work, Kubernetes scales up the ReplicaSet that was made last: that of the update that was undone."""
    pen = Pen.build(zoo, "undone")
    pen.add(kinds.DEPLOYMENT, replicas=2)
    for version in ("2", "1"):
        update(pen, version)
        wait_for("it is updated", lambda version=version: versions(pen) == [version] * 2, within=PATIENCE)
    update(pen, "3", paused=True)
    pen.await_running(kinds.DEPLOYMENT, "undone", 2)
    pen.snapshot()
    assert "Deployment undone has pods of an older revision (paused)" in pen.await_failed("UpdateWaiting")
    assert versions(pen) == ["1", "1"]


@pytest.mark.zoo("deployment-rollout")
def test_a_rollout_that_goes_on_is_waited_for(zoo: World) -> None:
    pen = Pen.build(zoo, "rolling")
    pen.add(kinds.DEPLOYMENT, replicas=3, strategy=GENTLY)
    update(pen, minReadySeconds=500)
    pen.snapshot()
    pen.await_quiesced("WaitingForUpdate", "Deployment rolling is being updated")
    assert pen.replicas(kinds.DEPLOYMENT) == 3
    update(pen, minReadySeconds=0)
    pen.await_ready()
    pen.await_running(kinds.DEPLOYMENT, "rolling", 3)
    assert versions(pen) == ["2", "2", "2"]


@pytest.mark.zoo("deployment-stuck")
def test_a_rollout_that_is_stuck_is_not_finished_by_a_backup(zoo: World) -> None:
    pen = Pen.build(zoo, "broken")
    pen.add(kinds.DEPLOYMENT, replicas=2, strategy=GENTLY, progressDeadlineSeconds=2)
    with broken(zoo):
        update(pen)
        wait_for(
            "its progress deadline is exceeded",
            lambda: "ProgressDeadlineExceeded" in str(pen.get(kinds.DEPLOYMENT)["status"]["conditions"]),
            within=PATIENCE,
        )
        generation = pen.get(kinds.DEPLOYMENT)["metadata"]["generation"]
        pen.snapshot()
        said = pen.await_failed("UpdateWaiting")
        assert "Deployment broken has pods of an older revision (ProgressDeadlineExceeded)" in said
        pen.assert_untouched(kinds.DEPLOYMENT, "broken", generation, 2)
        assert versions(pen) == ["1", "1", "2"]
        update(pen, "1")
        pen.snapshot("broken-undone")
        pen.await_ready("broken-undone")
        pen.await_running(kinds.DEPLOYMENT, "broken", 2)
        assert versions(pen) == ["1", "1"]


@pytest.mark.zoo("statefulset-rollout")
def test_a_stateful_set_whose_update_does_not_end_is_not_updated_by_a_backup(zoo: World) -> None:
    pen = Pen.build(zoo, "sickly", quiesce={"timeout": "3s"})
    pen.add(kinds.STATEFUL_SET, replicas=2)
    with broken(zoo):
        update(pen, kind=kinds.STATEFUL_SET)
        wait_for("one pod is new", lambda: versions(pen) == ["1", "2"], within=PATIENCE)
        pen.snapshot()
        pen.await_quiesced("WaitingForUpdate", "StatefulSet sickly is being updated")
        said = pen.await_failed("UpdateWaiting")
        assert "StatefulSet sickly still had pods of an older revision after quiesce.timeout" in said
        pen.assert_untouched(kinds.STATEFUL_SET, "sickly", 2, 2)
        assert versions(pen) == ["1", "2"]
    pen.snapshot("sickly-well")
    pen.await_ready("sickly-well")
    assert versions(pen) == ["2", "2"]


ROLL_OUT = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}


def job(pen: Pen) -> dict[str, Any]:
    pod = bare_pod(pen, "unused")["spec"]
    return {
        "metadata": {"name": pen.name, "namespace": pen.world.namespace},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


@pytest.mark.zoo("job")
def test_a_job_that_runs_is_waited_for(zoo: World) -> None:
    pen = Pen.build(zoo, "import")
    zoo.api.create(kinds.JOB, job(pen))
    pod = wait_for("the Job has a pod", lambda: running_pod_of(pen), within=PATIENCE)
    pen.snapshot()
    pen.await_quiesced("WaitingForJob", "Job import uses a volume of the group; a Job is never stopped half-way")
    done = {"name": "main", "image": "played", "imageID": "", "ready": False, "restartCount": 0}
    ended = {"exitCode": 0, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"}
    status = {"phase": "Succeeded", "containerStatuses": [{**done, "state": {"terminated": ended}}]}
    zoo.api.patch(kinds.POD, zoo.namespace, pod, {"status": status}, "status")
    pen.await_ready()
    assert pen.get(kinds.JOB)["status"]["succeeded"] == 1


@pytest.mark.zoo("job-too-long")
def test_a_job_that_runs_beyond_the_timeout_fails_the_run(zoo: World) -> None:
    pen = Pen.build(zoo, "endless", quiesce={"timeout": "3s"})
    pen.add(kinds.DEPLOYMENT, "endless-web")
    generation = pen.get(kinds.DEPLOYMENT, "endless-web")["metadata"]["generation"]
    zoo.api.create(kinds.JOB, job(pen))
    pod = wait_for("the Job has a pod", lambda: running_pod_of(pen), within=PATIENCE)
    pen.snapshot()
    assert "Job endless still used a volume of the group after quiesce.timeout" in pen.await_failed("JobRunning")
    assert "deletionTimestamp" not in pen.get(kinds.POD, pod)["metadata"]
    pen.assert_untouched(kinds.DEPLOYMENT, "endless-web", generation, 1)


def running_pod_of(pen: Pen) -> str | None:
    """The name of the pod of the Job `pen.name`, once it runs."""
    pods = pen.world.api.list(kinds.POD, pen.world.namespace, f"job-name={pen.name}")
    return next((pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") == "Running"), None)
