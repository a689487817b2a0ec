"""What a run does where the world does not stand still: rows of docs/reference/workloads.md, against the real
controllers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.planning.naming import RUN_LABEL
from tests.cluster.controlplane import ControlPlane
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.api import Object
from tests.integration.operator_world.kubelet import NODE, PlayedKubelet
from tests.integration.operator_world.movers import Movers, Play, failure, options_of
from tests.integration.operator_world.pens import Pen
from tests.integration.operator_world.rivals import AUTOSCALER
from tests.integration.operator_world.world import PATIENCE, World, claim, workload, world

pytestmark = pytest.mark.apiserver

HANG = Play(hang=True)
BUDGET = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")


@pytest.fixture
def zoo(shared: World) -> Iterator[World]:
    """One namespace, one operator; every test has a pen of its own in it."""
    yield shared
    shared.movers.script = Movers().script
    shared.kubelet.stays = shared.kubelet.held_back = lambda pod: False


def in_the_window(zoo: World, name: str) -> Pen:
    """Two Deployments on one claim, `<name>-one` and `<name>-two`, both down, and a mover that does not end."""
    pen = Pen.build(zoo, name)
    for each in ("one", "two"):
        pen.add(kinds.DEPLOYMENT, f"{name}-{each}")
    pen.backups(HANG)
    pen.snapshot()
    pen.await_down()
    return pen


@pytest.mark.zoo("deleted")
def test_a_workload_that_is_deleted_in_the_window_spoils_the_run_and_the_others_come_back(zoo: World) -> None:
    pen = in_the_window(zoo, "deleted")
    zoo.api.delete(kinds.DEPLOYMENT, zoo.namespace, "deleted-one")
    assert "Deployment deleted-one was deleted or replaced" in pen.await_failed("Inconsistent")
    assert pen.states() == {"deleted-one": "Gone", "deleted-two": "Released"}
    pen.await_running(kinds.DEPLOYMENT, "deleted-two", 1)
    assert zoo.api.get(kinds.DEPLOYMENT, zoo.namespace, "deleted-one") is None


@pytest.mark.zoo("recreated", "renamed")
@pytest.mark.parametrize(("name", "successor"), [("recreated", "recreated-one"), ("renamed", "renamed-anew")])
def test_a_workload_that_is_made_again_in_the_window_spoils_the_run_and_is_left_alone(
    zoo: World, name: str, successor: str
) -> None:
    pen = in_the_window(zoo, name)
    zoo.api.delete(kinds.DEPLOYMENT, zoo.namespace, f"{name}-one")
    wait_for("it is gone", lambda: zoo.api.get(kinds.DEPLOYMENT, zoo.namespace, f"{name}-one") is None, within=30)
    zoo.api.create(kinds.DEPLOYMENT, workload(zoo.namespace, kinds.DEPLOYMENT, successor, pen.claim, 2))
    assert f"Deployment {name}-one was deleted or replaced" in pen.await_failed("Inconsistent")
    pen.await_running(kinds.DEPLOYMENT, successor, 2)
    pen.await_running(kinds.DEPLOYMENT, f"{name}-two", 1)
    pen.assert_untouched(kinds.DEPLOYMENT, successor, 1, 2)


@pytest.mark.zoo("scaled")
def test_a_person_who_scales_in_the_window_wins_and_the_run_is_not_good(zoo: World) -> None:
    pen = in_the_window(zoo, "scaled")
    pen.scale(kinds.DEPLOYMENT, "scaled-one", 3)
    assert "Deployment scaled-one was started by someone else" in pen.await_failed("Inconsistent")
    pen.await_running(kinds.DEPLOYMENT, "scaled-one", 3)
    pen.await_running(kinds.DEPLOYMENT, "scaled-two", 1)
    pen.assert_unmarked(kinds.DEPLOYMENT, "scaled-one")


@pytest.mark.zoo("gitops")
@pytest.mark.parametrize(
    ("name", "manager", "metadata", "words"),
    [
        (
            "flux",
            "kustomize-controller",
            {"labels": {f"kustomize.toolkit.fluxcd.io/{key}": key for key in ("name", "namespace")}},
            "the field manager kustomize-controller (Flux, Kustomization namespace/name: leave spec.replicas out",
        ),
        (
            "argo",
            "argocd-controller",
            {"annotations": {"argocd.argoproj.io/tracking-id": "web:apps/Deployment:shop/argo"}},
            "the field manager argocd-controller (Argo CD, Application web: let its ignoreDifferences cover",
        ),
    ],
)
def test_who_applies_the_count_from_git_in_the_window_is_named_with_what_to_do(
    zoo: World, name: str, manager: str, metadata: Object, words: str
) -> None:
    """By the field manager that the API server noted at the apply, and the names that the workload carries."""
    pen = Pen.build(zoo, name)
    declared = {"apiVersion": "apps/v1", "kind": "Deployment"}
    declared |= workload(zoo.namespace, kinds.DEPLOYMENT, name, pen.claim, 2)
    declared["metadata"] = {**declared["metadata"], **metadata}
    path = f"{kinds.DEPLOYMENT.path(zoo.namespace, name)}?fieldManager={manager}&force=true"

    def apply() -> None:
        zoo.api.call("PATCH", path, declared, "application/apply-patch+yaml")

    apply()
    pen.await_running(kinds.DEPLOYMENT, name, 2)
    pen.backups(HANG)
    pen.snapshot()
    pen.await_down()
    apply()
    assert f"Deployment {name} was started by {words}" in pen.await_failed("Inconsistent")
    pen.await_running(kinds.DEPLOYMENT, name, 2)
    pen.assert_unmarked(kinds.DEPLOYMENT, name)


@pytest.mark.zoo("autoscaler")
def test_an_autoscaler_rests_at_zero_and_finds_the_count_again_that_it_was_at(zoo: World) -> None:
    """Not its minReplicas, and not the count that the workload was made with; it is not touched."""
    pen = Pen.build(zoo, "auto")
    pen.add(kinds.DEPLOYMENT)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "auto"}
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
    spec = {"scaleTargetRef": target, "minReplicas": 3, "maxReplicas": 6, "metrics": [cpu]}
    zoo.api.create(AUTOSCALER, {"metadata": {"name": "auto", "namespace": zoo.namespace}, "spec": spec})
    pen.await_running(kinds.DEPLOYMENT, "auto", 3)
    pen.scale(kinds.DEPLOYMENT, "auto", 4)
    pen.await_running(kinds.DEPLOYMENT, "auto", 4)
    before = pen.get(AUTOSCALER)

    def rests() -> bool:
        conditions = (pen.get(AUTOSCALER).get("status") or {}).get("conditions") or []
        return any(c["type"] == "ScalingActive" and c["reason"] == "ScalingDisabled" for c in conditions)

    zoo.kubelet.stays = lambda pod: app_of(pod) == "auto"
    pen.snapshot()
    wait_for("the autoscaler rests", rests, within=PATIENCE, seen=lambda: str(pen.get(AUTOSCALER)["status"]))
    zoo.kubelet.stays = lambda pod: False
    (entry,) = pen.await_ready()["quiesce"]["workloads"]
    assert (entry["state"], entry["replicas"]) == ("Released", 4)
    pen.await_running(kinds.DEPLOYMENT, "auto", 4)
    after = pen.get(AUTOSCALER)
    assert (after["spec"], after["metadata"].get("annotations")) == (
        before["spec"],
        before["metadata"].get("annotations"),
    )


@pytest.mark.zoo("edited")
def test_an_edit_in_the_window_spoils_the_run_and_the_count_comes_back(zoo: World) -> None:
    pen = in_the_window(zoo, "edited")
    image = {"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}}
    zoo.api.patch(kinds.DEPLOYMENT, zoo.namespace, "edited-one", image)
    assert "Deployment edited-one was edited" in pen.await_failed("Inconsistent")
    for name in ("edited-one", "edited-two"):
        pen.await_running(kinds.DEPLOYMENT, name, 1)


@pytest.mark.zoo("unheld")
def test_a_hold_that_a_person_removes_leaves_the_workload_as_the_person_has_it(zoo: World) -> None:
    pen = in_the_window(zoo, "unheld")
    free = {"labels": {"lowtide.dev/held": None}, "annotations": {"lowtide.dev/hold": None}}
    zoo.api.patch(kinds.DEPLOYMENT, zoo.namespace, "unheld-one", {"metadata": free})
    assert "the hold on Deployment unheld-one was removed" in pen.await_failed("Inconsistent")
    assert pen.states() == {"unheld-one": "Overridden", "unheld-two": "Released"}
    assert pen.replicas(kinds.DEPLOYMENT, "unheld-one") == 0
    pen.await_running(kinds.DEPLOYMENT, "unheld-two", 1)


@pytest.mark.zoo("pod-comes-back")
def test_a_pod_that_mounts_the_volume_in_the_window_spoils_the_run(zoo: World) -> None:
    pen = in_the_window(zoo, "intruder")
    zoo.api.create(kinds.DEPLOYMENT, workload(zoo.namespace, kinds.DEPLOYMENT, "intruder-new", pen.claim, 1))
    assert "pod intruder-new-" in pen.await_failed("Inconsistent")
    for name in ("intruder-one", "intruder-two"):
        pen.await_running(kinds.DEPLOYMENT, name, 1)
    pen.assert_untouched(kinds.DEPLOYMENT, "intruder-new", 1, 1)


@pytest.mark.zoo("two-policies")
def test_two_policies_on_one_workload_run_one_after_the_other(zoo: World) -> None:
    """It mounts a volume of each: neither group may find it half stopped by the other."""
    pen = Pen.build(zoo, "both")
    other = Pen.build(zoo, "other")
    body = workload(zoo.namespace, kinds.DEPLOYMENT, "both", pen.claim, 1)
    more = {"name": "more", "persistentVolumeClaim": {"claimName": other.claim}}
    body["spec"]["template"]["spec"]["volumes"].append(more)
    zoo.api.create(kinds.DEPLOYMENT, body)
    pen.await_running(kinds.DEPLOYMENT, "both", 1)
    zoo.hold_movers("backup")
    pen.snapshot()
    pen.await_down()
    other.snapshot()
    other.await_quiesced("WaitingForOtherRun", "Snapshot both")
    zoo.let_movers_start()
    first, second = pen.await_ready()["quiesce"], other.await_ready()["quiesce"]
    assert first["releasedTime"] <= second["startTime"]
    assert [entry["replicas"] for ledger in (first, second) for entry in ledger["workloads"]] == [1, 1]
    pen.await_running(kinds.DEPLOYMENT, "both", 1)
    pen.assert_unmarked(kinds.DEPLOYMENT, "both")


@pytest.mark.zoo("terminating")
def test_a_pod_that_is_stuck_in_terminating_fails_the_run_and_is_named(zoo: World) -> None:
    pen = Pen.build(zoo, "stuck", quiesce={"timeout": "5s"})
    pen.add(kinds.DEPLOYMENT)
    (pod,) = pods_of(zoo, "stuck")
    zoo.api.patch(kinds.POD, zoo.namespace, pod, {"metadata": {"finalizers": ["example.org/stuck"]}})
    pen.snapshot()
    assert f"these did not go: pod {pod}" in pen.await_failed("QuiesceTimeout")
    assert pen.replicas(kinds.DEPLOYMENT) == 1
    assert pen.get(kinds.POD, pod)["metadata"]["finalizers"] == ["example.org/stuck"], "it is not removed by force"
    zoo.api.patch(kinds.POD, zoo.namespace, pod, {"metadata": {"finalizers": None}})
    pen.await_running(kinds.DEPLOYMENT, "stuck", 1)
    read = [
        words for words in zoo.movers.commands if words[0] == "backup" and ("--claim", pen.claim) in options_of(words)
    ]
    assert read == []


@pytest.mark.zoo("disruption-budget")
def test_a_pod_disruption_budget_is_no_obstacle(zoo: World) -> None:
    """It bounds evictions; a workload that is scaled down is not evicted."""
    pen = Pen.build(zoo, "budget")
    pen.add(kinds.DEPLOYMENT, replicas=2)
    spec = {"minAvailable": 2, "selector": {"matchLabels": {"app": "budget"}}}
    zoo.api.create(BUDGET, {"metadata": {"name": "budget", "namespace": zoo.namespace}, "spec": spec})
    pen.snapshot()
    pen.await_ready()
    pen.await_running(kinds.DEPLOYMENT, "budget", 2)
    assert pen.get(BUDGET)["spec"]["minAvailable"] == 2


def evict(zoo: World, pod: str) -> None:
    """As `kubectl drain` does."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": zoo.namespace}}
    zoo.api.call("POST", kinds.POD.path(zoo.namespace, pod, "eviction"), body)


@pytest.mark.zoo("drained")
def test_a_node_that_is_drained_costs_an_attempt_and_not_the_run(zoo: World) -> None:
    pen = Pen.build(zoo, "drained")
    pen.add(kinds.DEPLOYMENT)
    attempts: list[str] = []

    def play(words: list[str]) -> Play:
        attempts.append(uuid.uuid4().hex)
        return HANG if len(attempts) == 1 else Play(Movers().result(words, attempts[-1]))

    pen.backups(play)
    pen.snapshot()
    wait_for("a mover reads the volume", lambda: attempts, within=PATIENCE, seen=pen.seen)
    evict(zoo, pen.await_mover())
    status = pen.await_ready()
    assert [volume["attempt"] for volume in status["volumes"]] == [2]
    assert status["attempt"] == 2
    pen.await_running(kinds.DEPLOYMENT, "drained", 1)


@pytest.mark.zoo("order", "dependent")
def test_workloads_stop_in_the_named_order_and_start_in_reverse_each_waited_for(zoo: World) -> None:
    """front mounts nothing and is named; it stops first, and starts when what it depends on is ready."""
    named = [{"kind": "Deployment", "name": "order-front"}, {"kind": "Deployment", "name": "order-web"}]
    pen = Pen.build(zoo, "order", quiesce={"workloads": named})
    front = workload(zoo.namespace, kinds.DEPLOYMENT, "order-front", "unused", 1)
    del front["spec"]["template"]["spec"]["volumes"], front["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    zoo.api.create(kinds.DEPLOYMENT, front)
    pen.await_running(kinds.DEPLOYMENT, "order-front", 1)
    pen.add(kinds.DEPLOYMENT, "order-web")
    pen.add(kinds.STATEFUL_SET, "order-db")
    order = ((kinds.DEPLOYMENT, "order-front"), (kinds.DEPLOYMENT, "order-web"), (kinds.STATEFUL_SET, "order-db"))

    def counts() -> list[int]:
        return [pen.replicas(kind, name) for kind, name in order]

    def await_counts(*expected: int) -> None:
        wait_for(f"the counts are {expected}", lambda: counts() == list(expected), within=PATIENCE, seen=pen.seen)

    staying = waiting = {"order-front", "order-web", "order-db"}
    zoo.kubelet.stays = lambda pod: app_of(pod) in staying
    zoo.kubelet.held_back = lambda pod: app_of(pod) in waiting
    pen.snapshot()
    await_counts(0, 1, 1)
    pen.await_quiesced("Stopping", "pod order-front-")
    await_looks(pen, 3)
    assert counts() == [0, 1, 1], "the next was stopped although a pod of the first is there"
    staying = staying - {"order-front"}
    await_counts(0, 0, 1)
    await_looks(pen, 3)
    assert counts() == [0, 0, 1], "the next was stopped although a pod of the one before is there"
    staying = staying - {"order-web"}
    await_counts(0, 0, 0)
    staying = set()
    pen.await_down()
    await_counts(0, 0, 1)
    await_looks(pen, 3)
    assert counts() == [0, 0, 1], "the next was started although the database is not ready"
    waiting = waiting - {"order-db"}
    await_counts(0, 1, 1)
    await_looks(pen, 3)
    assert counts() == [0, 1, 1], "the last was started although the one before it is not ready"
    waiting = set()
    await_counts(1, 1, 1)
    pen.await_ready()
    assert [entry["name"] for entry in zoo.status(kinds.SNAPSHOT, "order")["quiesce"]["workloads"]] == [
        name for _, name in order
    ]


@pytest.mark.zoo("volume-fails")
def test_one_volume_that_fails_makes_the_whole_group_not_ready_and_is_named(zoo: World) -> None:
    zoo.api.create(kinds.CLAIM, claim(zoo.namespace, "group-good"))
    pen = Pen.build(zoo, "group", volumes={"claims": ["group-data", "group-good"]})
    pen.add(kinds.DEPLOYMENT)
    pen.backups(failure("backup", "SourceFailed", "A file could not be read."))
    pen.snapshot()
    assert "Volume group-data was not backed up: A file could not be read." in pen.await_failed("SourceFailed")
    volumes = {volume["claim"]: volume["outcome"] for volume in zoo.status(kinds.SNAPSHOT, "group")["volumes"]}
    assert volumes["group-data"] == "Failed"
    assert "verdictSnapshotId" not in zoo.status(kinds.SNAPSHOT, "group")
    pen.await_running(kinds.DEPLOYMENT, "group", 1)


@pytest.mark.zoo("namespace")
def test_a_namespace_that_is_deleted_in_the_window_goes(control_plane: ControlPlane, tmp_path: Path) -> None:
    """No Job can run in it any more, not even to forget the data: nothing of ours keeps it."""
    with world(control_plane, tmp_path) as made:
        made.operator.start()
        made.movers.script = lambda words, before: HANG if words[0] == "backup" else None
        made.policy()
        made.snapshot(deletionPolicy="Delete")
        wait_for("movers run", lambda: made.movers.count("backup") == 2, within=PATIENCE, seen=made.operator.tail)
        made.api.delete(kinds.NAMESPACE, None, made.namespace)
        wait_for(
            "the namespace is gone",
            lambda: made.api.get(kinds.NAMESPACE, None, made.namespace) is None,
            within=120,
            every=0.5,
            seen=lambda: f"{made.api.get(kinds.NAMESPACE, None, made.namespace)}\n{made.operator.tail()}",
        )
        assert made.movers.forgotten == []


@pytest.mark.zoo("kubelet")
def test_a_node_whose_kubelet_is_stopped_fails_the_run_and_workloads_come_back(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    """Its pods never go, so nothing is known of their mounts: nothing is read."""
    with world(control_plane, tmp_path) as made:
        made.operator.start()
        made.kubelet.stays = lambda pod: RUN_LABEL not in pod["metadata"]["labels"]
        made.policy(quiesce={"timeout": "10s"})
        made.snapshot()
        wait_for("all is scaled down", lambda: made.counts() == {"web": 0, "db": 0}, within=PATIENCE)
        made.kubelet.stop()
        unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
        made.api.patch(kinds.NODE, None, NODE, {"status": {"conditions": [unknown]}}, "status")
        wait_for("all is put back", lambda: made.counts() == made.wanted_counts(), within=PATIENCE)
        assert made.held() == []
        made.kubelet = PlayedKubelet(made.api, made.namespace, made.movers)
        made.kubelet.start()
        ready = made.await_end(kinds.SNAPSHOT, "first")
        assert (ready["status"], ready["reason"]) == ("False", "QuiesceTimeout")
        assert ready["message"].count("pod ") == 3
        made.assert_back()
        assert made.movers.count("backup") == 0


def app_of(pod: Object) -> str:
    """Which workload's pod it is; "" for a mover's."""
    return str(pod["metadata"]["labels"].get("app", ""))


def pods_of(zoo: World, app: str) -> list[str]:
    """The names of the pods of a workload."""
    return [pod["metadata"]["name"] for pod in zoo.api.list(kinds.POD, zoo.namespace, f"app={app}")]


def await_looks(pen: Pen, count: int) -> None:
    """Wait until the operator has looked at the Snapshot so many more times."""
    before = looks(pen)
    wait_for("the operator looks again", lambda: looks(pen) >= before + count, within=PATIENCE, seen=pen.seen)


def looks(pen: Pen) -> int:
    """How often the operator has looked at Snapshots."""
    text = pen.world.operator.ask("metrics")[1]
    found = [
        line
        for line in text.splitlines()
        if line.startswith("lowtide_reconciles_total{") and 'subject="Snapshot"' in line
    ]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in found))
