"""Which workloads a group's volumes stop, and which are refused with advice."""

from collections.abc import Callable

import pytest

from lowtide_operator.api.quiesce import WorkloadRef
from lowtide_operator.planning.observed import Owner, Uid
from lowtide_operator.planning.users import Users, find_users
from tests.property.planning_world import Cluster

CLAIMS = frozenset({"data"})


def found(cluster: Cluster, *named: tuple[str, str]) -> Users:
    references = tuple(WorkloadRef.model_validate({"kind": kind, "name": name}) for kind, name in named)
    return find_users(CLAIMS, references, cluster.world())


def names(users: Users) -> list[str]:
    return [f"{workload.kind}/{workload.meta.name}" for _, workload in users.workloads]


@pytest.fixture
def cluster() -> Cluster:
    world = Cluster()
    world.add_claim("data")
    world.add_claim("data-db-0")
    return world


def owner_of(workload) -> Owner:
    return Owner(workload.api_version, workload.kind, workload.meta.name, workload.meta.uid, True)


def deployment_behind_a_replica_set(world: Cluster) -> None:
    deployment = world.add_workload("Deployment", "web", "data")
    replica_set = world.add_workload("ReplicaSet", "web-1", "data", owners=(owner_of(deployment),))
    world.add_pod("web-1-x", "data", owner=replica_set)


def pod_template_only(world: Cluster) -> None:
    world.add_workload("Deployment", "web", "data", replicas=0)


def lone_replica_set(world: Cluster) -> None:
    world.add_pod("rs-x", "data", owner=world.add_workload("ReplicaSet", "rs", "data"))


def job_of_a_cron_job(world: Cluster) -> None:
    nightly = world.add_workload("CronJob", "nightly", "data")
    job = world.add_workload("Job", "nightly-1", "data", owners=(owner_of(nightly),), finished=True)
    world.add_pod("nightly-1-x", "data", owner=job, phase="Succeeded")


def old_revision(world: Cluster) -> None:
    deployment = world.add_workload("Deployment", "web")
    world.add_workload("ReplicaSet", "web-old", "data", replicas=0, owners=(owner_of(deployment),))


def other_claim(world: Cluster) -> None:
    world.add_workload("Deployment", "web", "else")


def our_mover(world: Cluster) -> None:
    world.add_pod(
        "mover", "data", labels={"lowtide.dev/run-uid": "u", "app.kubernetes.io/managed-by": "lowtide"}, node="n"
    )


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        pytest.param(deployment_behind_a_replica_set, ["Deployment/web"], id="a pod leads to its Deployment"),
        pytest.param(pod_template_only, ["Deployment/web"], id="one at 0 is recorded by its template"),
        pytest.param(lone_replica_set, ["ReplicaSet/rs"], id="a ReplicaSet of its own is stopped itself"),
        pytest.param(job_of_a_cron_job, ["CronJob/nightly"], id="a CronJob is suspended, its finished Job is nothing"),
        pytest.param(old_revision, [], id="an old revision names a claim for ever and counts for nothing"),
        pytest.param(other_claim, [], id="who uses another claim is left alone"),
        pytest.param(our_mover, [], id="our own movers are no users"),
    ],
)
def test_the_workloads_that_use_a_claim_are_found(cluster: Cluster, build: Callable[[Cluster], None], expected):
    build(cluster)
    users = found(cluster)
    assert (names(users), users.refusals, users.running_jobs) == (expected, (), ())


def test_a_stateful_set_names_claims_by_its_templates():
    world = Cluster()
    world.add_workload("StatefulSet", "db", claim_templates=("data",))
    world.add_workload("StatefulSet", "db2", claim_templates=("data",))
    users = find_users(frozenset({"data-db-0"}), (), world.world())
    assert names(users) == ["StatefulSet/db"]


def test_named_workloads_come_first_in_the_order_of_the_list(cluster: Cluster):
    for name in ("app", "db", "zoo"):
        cluster.add_workload("Deployment", name, "data")
    cluster.add_workload("Deployment", "front")
    users = found(cluster, ("Deployment", "front"), ("Deployment", "zoo"))
    assert [(order, workload.meta.name) for order, workload in users.workloads] == [
        (0, "front"),
        (1, "zoo"),
        (2, "app"),
        (2, "db"),
    ]


def running_job(world: Cluster) -> None:
    world.add_pod("import-x", "data", owner=world.add_workload("Job", "import", "data"))


def job_without_a_pod_yet(world: Cluster) -> None:
    world.add_workload("Job", "import", "data")


@pytest.mark.parametrize("build", [running_job, job_without_a_pod_yet])
def test_a_running_job_is_waited_for_and_never_stopped(cluster: Cluster, build):
    build(cluster)
    users = found(cluster)
    assert (users.running_jobs, users.workloads, users.refusals) == (("import",), (), ())


def daemon_set(world: Cluster) -> None:
    world.add_workload("DaemonSet", "agent", "data")


def bare_pod(world: Cluster) -> None:
    world.add_pod("shell", "data")


def owned_deployment(world: Cluster) -> None:
    owner = Owner("example.org/v1", "Cache", "redis", Uid("x"), True)
    world.add_workload("Deployment", "redis", "data", owners=(owner,))


def pod_of_an_operator(world: Cluster) -> None:
    pod = world.add_pod("pg-1", "data")
    owner = Owner("postgresql.cnpg.io/v1", "Cluster", "pg", Uid("x"), True)
    world.pods[pod.meta.uid] = type(pod)(
        **{f: getattr(pod, f) for f in pod.__slots__ if f != "meta"},
        meta=type(pod.meta)(**{**{f: getattr(pod.meta, f) for f in pod.meta.__slots__}, "owners": (owner,)}),
    )


def replication_controller(world: Cluster) -> None:
    world.add_workload("ReplicationController", "old", "data")


def deleting_stateful_set(world: Cluster) -> None:
    world.add_workload("StatefulSet", "db", "data", when_scaled="Delete")


def half_updated_stateful_set(world: Cluster) -> None:
    world.add_workload("StatefulSet", "db", "data", half_updated=True, update_kept_by="OnDelete")


@pytest.mark.parametrize(
    ("build", "reason", "words"),
    [
        pytest.param(daemon_set, "WorkloadNotStoppable", "DaemonSet agent", id="a DaemonSet"),
        pytest.param(bare_pod, "BarePod", "Pod shell", id="a pod that nobody would start again"),
        pytest.param(owned_deployment, "WorkloadManaged", "Cache redis", id="a workload of another controller"),
        pytest.param(pod_of_an_operator, "WorkloadManaged", "Cluster pg", id="a pod of a custom resource"),
        pytest.param(
            replication_controller, "WorkloadNotStoppable", "ReplicationController", id="a kind we don't know"
        ),
        pytest.param(deleting_stateful_set, "ClaimsWouldBeDeleted", "Retain", id="whenScaled Delete loses the volumes"),
        pytest.param(
            half_updated_stateful_set, "UpdateWaiting", "older revision (OnDelete)", id="an update that is kept back"
        ),
    ],
)
def test_what_must_not_be_stopped_is_refused_with_advice(cluster: Cluster, build, reason: str, words: str):
    build(cluster)
    (refusal,) = found(cluster).refusals
    assert refusal.reason == reason
    assert words in refusal.message
    assert refusal.message.endswith(".")
    assert found(cluster).workloads == ()


def test_a_named_workload_that_does_not_exist_is_refused(cluster: Cluster):
    (refusal,) = found(cluster, ("Deployment", "typo")).refusals
    assert (refusal.reason, "typo" in refusal.message) == ("WorkloadNotFound", True)
