"""What Kubernetes leaves out is read as Kubernetes means it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import Unreachable
from lowtide_operator.errors import InvalidObject
from lowtide_operator.planning.observed import ObservedSnapshot
from lowtide_operator.reconcile import mover_log, parse
from lowtide_operator.reconcile.gather import Gatherer
from lowtide_operator.reconcile.keys import Key, Subject
from tests.unit.reconcile.memory_world import SHOP, Shop

META = {
    "name": "a",
    "namespace": "shop",
    "uid": "u",
    "resourceVersion": "1",
    "creationTimestamp": "2026-01-05T02:00:00Z",
}

STUCK = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}


def body(kind: str = "Pod", api: str = "v1", **parts: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": META, **parts}


def test_a_pods_claims_are_those_of_its_volumes_ephemeral_ones_included() -> None:
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "again", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
        {"name": "empty", "emptyDir": {}},
    ]
    assert parse.pod(body(spec={"volumes": volumes})).claims == ("c", "a-scratch")
    template = {"template": {"spec": {"volumes": volumes}}}
    assert parse.workload(body("Deployment", "apps/v1", spec=template)).claims == ("c",)


def test_whom_a_pod_runs_as_is_the_pods_context_overlaid_by_the_container_that_mounts() -> None:
    spec = {
        "securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]},
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}],
        "containers": [
            {"name": "sidecar", "securityContext": {"runAsUser": 99}},
            {"name": "main", "volumeMounts": [{"name": "data"}], "securityContext": {"runAsUser": 26}},
        ],
    }
    found = parse.pod(body(spec=spec)).identity
    assert (found.user, found.group, found.fs_group, found.supplemental_groups) == (26, 2, 3, (4,))


def test_whom_a_pod_with_a_device_runs_as_is_said_by_the_container_that_has_the_device() -> None:
    spec = {
        "volumes": [{"name": "disk", "persistentVolumeClaim": {"claimName": "c"}}],
        "containers": [
            {"name": "sidecar", "securityContext": {"runAsUser": 99}},
            {"name": "main", "volumeDevices": [{"name": "disk"}], "securityContext": {"runAsUser": 107}},
        ],
    }
    assert parse.pod(body(spec=spec)).identity.user == 107


def test_the_tolerations_are_those_of_the_pod_or_of_the_pod_template() -> None:
    spec = {"tolerations": [{"key": "storage", "operator": "Exists"}]}
    assert parse.pod(body(spec=spec)).tolerations == ({"key": "storage", "operator": "Exists"},)
    template = {"template": {"spec": spec}}
    nested = {"jobTemplate": {"spec": template}}
    for found in (body("Deployment", "apps/v1", spec=template), body("CronJob", "batch/v1", spec=nested)):
        assert parse.workload(found).tolerations == ({"key": "storage", "operator": "Exists"},)


def test_the_replicas_that_nobody_wrote_are_one_and_kinds_without_them_have_none() -> None:
    assert parse.workload(body("StatefulSet", "apps/v1", spec={})).replicas == 1
    assert parse.workload(body("StatefulSet", "apps/v1", spec={"replicas": 0})).replicas == 0
    assert parse.workload(body("DaemonSet", "apps/v1", spec={})).replicas is None
    cron = {"suspend": True, "jobTemplate": {"spec": {"template": {"spec": {"volumes": []}}}}}
    found = parse.workload(body("CronJob", "batch/v1", spec=cron))
    assert (found.replicas, found.suspended) == (None, True)


@pytest.mark.parametrize(
    ("kind", "spec", "status", "kept"),
    [
        ("Deployment", {}, {}, ""),
        ("Deployment", {"paused": True}, {}, "paused"),
        ("Deployment", {"paused": True}, {"observedGeneration": 3}, ""),
        ("Deployment", {}, {"conditions": [STUCK]}, "ProgressDeadlineExceeded"),
        ("Deployment", {}, {"conditions": [STUCK], "observedGeneration": 3}, ""),
        ("Deployment", {}, {"conditions": [{**STUCK, "reason": "ReplicaSetUpdated"}]}, ""),
        ("StatefulSet", {"updateStrategy": {"type": "OnDelete"}}, {}, "OnDelete"),
        ("StatefulSet", {"updateStrategy": {"rollingUpdate": {"partition": 1}}}, {}, "partition"),
        ("StatefulSet", {"updateStrategy": {"rollingUpdate": {"partition": 0}}}, {}, ""),
    ],
)
def test_what_keeps_an_update_is_said_once_the_controller_has_seen_the_spec(
    kind: str, spec: dict[str, Any], status: dict[str, Any], kept: str
) -> None:
    found = body(kind, "apps/v1", spec=spec, status={"observedGeneration": 4, **status})
    found["metadata"] = {**META, "generation": 4}
    assert parse.workload(found).update_kept_by == kept


@pytest.mark.parametrize(
    ("status", "half"),
    [
        pytest.param({}, False, id="all pods have the one revision"),
        pytest.param({"updateRevision": "db-2"}, True, id="one is updated"),
        pytest.param({"updateRevision": "db-2", "updatedReplicas": 3}, False, id="all are"),
        pytest.param({"observedGeneration": 3}, True, id="what was asked last is not seen yet"),
    ],
)
def test_a_stateful_set_is_half_updated_while_it_has_pods_of_two_revisions(status: dict[str, Any], half: bool) -> None:
    known = {"observedGeneration": 4, "replicas": 3, "updatedReplicas": 1}
    revisions = {"currentRevision": "db-1", "updateRevision": "db-1"}
    found = body("StatefulSet", "apps/v1", spec={"replicas": 3}, status={**known, **revisions, **status})
    found["metadata"] = {**META, "generation": 4}
    assert parse.workload(found).half_updated is half


def test_the_templates_of_a_deployment_and_its_replica_set_are_one() -> None:
    def template(**labels: str) -> dict[str, Any]:
        return {"template": {"metadata": {"labels": {"app": "web", **labels}}, "spec": {"containers": []}}}

    web = parse.workload(body("Deployment", "apps/v1", spec=template()))
    same = parse.workload(body("ReplicaSet", "apps/v1", spec=template(**{"pod-template-hash": "5d8"})))
    other = parse.workload(body("ReplicaSet", "apps/v1", spec=template(version="2")))
    assert web.template == same.template != other.template


@pytest.mark.parametrize(
    ("kind", "field"), [("Deployment", "f:replicas"), ("StatefulSet", "f:replicas"), ("CronJob", "f:suspend")]
)
def test_who_wrote_the_count_is_its_newest_field_manager(kind: str, field: str) -> None:
    def entry(manager: str, time: str, *fields: str) -> dict[str, Any]:
        return {
            "manager": manager,
            "time": f"2026-01-05T0{time}:00:00Z",
            "fieldsV1": {"f:spec": {key: {} for key in fields}},
        }

    found = body(kind, "apps/v1", spec={})
    assert parse.workload(found).writer == ""
    entries = [
        entry("kubectl", "2", field),
        entry("kustomize-controller", "4", field, "f:template"),
        entry("lowtide", "3", field),
        entry("editor", "5", "f:template"),
        {"manager": "statuses", "time": "2026-01-05T06:00:00Z", "fieldsV1": {"f:status": {field: {}}}},
    ]
    assert parse.workload({**found, "metadata": {**META, "managedFields": entries}}).writer == "kustomize-controller"


@pytest.mark.parametrize(
    ("driver", "attach"),
    [
        pytest.param(None, False, id="no CSIDriver object"),
        pytest.param({"spec": {}}, True, id="a driver that does not say"),
        pytest.param({"spec": {"attachRequired": False}}, False, id="a driver that says no"),
    ],
)
def test_whether_a_volume_is_attached(driver: dict[str, Any] | None, attach: bool) -> None:
    assert parse.volume(body(spec={"csi": {"driver": "d"}}), driver).attach_required is attach


def test_the_nodes_of_a_volume_are_those_that_its_affinity_names() -> None:
    def with_terms(*terms: dict[str, Any]) -> dict[str, Any]:
        return body(spec={"nodeAffinity": {"required": {"nodeSelectorTerms": list(terms)}}})

    host = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1", "n2"]}]}
    zone = {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["z"]}]}
    assert parse.volume(with_terms(host), None).nodes == ("n1", "n2")
    assert parse.volume(with_terms(zone), None).nodes is None
    assert parse.volume(with_terms(host, zone), None).nodes is None
    assert parse.volume(body(spec={}), None).nodes is None


def test_how_a_container_ended_and_what_it_left() -> None:
    ended = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-01-05T02:01:00Z", "message": "{}"}
    spec = {"containers": [{"name": "mover", "image": "i", "resources": {"limits": {"memory": "64Mi"}}}]}
    status = {"phase": "Failed", "containerStatuses": [{"name": "mover", "state": {"terminated": ended}}]}
    pod = parse.pod(body(spec=spec, status=status))
    (container,) = pod.containers
    assert (container.terminated, container.exit_code, container.message) == ("OOMKilled", 137, "{}")
    assert (container.memory_limit, container.image) == ("64Mi", "i")
    assert pod.ended == container.finished


def test_a_pod_that_failed_in_an_init_container_ended_with_it() -> None:
    waiting = {"name": "main", "state": {"waiting": {"reason": "PodInitializing"}}}
    ended = {"name": "migrate", "state": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-05T02:01:00Z"}}}
    status = {"phase": "Failed", "containerStatuses": [waiting], "initContainerStatuses": [ended]}
    pod = parse.pod(body(spec={"initContainers": [{"name": "migrate", "image": "i"}]}, status=status))
    assert pod.ended == datetime(2026, 1, 5, 2, 1, tzinfo=UTC)
    assert [container.name for container in pod.containers] == ["main"]


def test_the_end_of_a_movers_log_tells_how_far_it_is() -> None:
    log = (
        "2026-01-05T02:00:01.123456789Z {}\n"
        '2026-01-05T02:00:05.5Z {"message_type":"status","percent_done":0.5,"total_files":4,"files_done":2,'
        '"total_bytes":200,"bytes_done":100}\n'
        '2026-01-05T02:00:07.5Z {"message_type":"error","item":"/a"}\n'
        "2026-01-05T02:00:09Z a warning\n"
        "cut off {\n"
        '2026-01-05T02:00:10Z {"message_type":"stat'
    )
    found = mover_log.mover_progress(log)
    assert found is not None
    assert found.time.second == 10
    assert (found.files, found.bytes, found.total_bytes, found.percent) == (2, 100, 200, 50)
    assert mover_log.mover_progress("2026-01-05T02:00:09Z text\n") is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ('{"message_type":"notice","message":"waiting for a lock"}', '{"message_type":"status"}'),
            "waiting for a lock",
        ),
        (('{"message_type":"error","error":{"message":"input/output error"},"item":"/a"}',), "input/output error"),
        (('{"message_type":"notice","message":"first"}', "plain text"), "plain text"),
        (("[1]", "3", '{"message":7}', '{"message_type":"status"}', '{"message_type":"summary"}'), ""),
        (("x" * 500,), "x" * 199 + "…"),
        ((), ""),
    ],
    ids=["a notice", "an error", "no JSON", "nothing for a person", "too long", "an empty log"],
)
def test_the_last_words_of_a_mover_are_what_it_said_to_people(lines: tuple[str, ...], expected: str) -> None:
    assert mover_log.last_words("".join(f"2026-01-05T02:00:07Z {line}\n" for line in lines)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(
            '{"message_type":"status","percent_done":0,"total_bytes":9,"bytes_done":5,"files_done":1}',
            (1, 5, None, None),
            id="a scan that is not done knows no total",
        ),
        pytest.param(
            '{"message_type":"status","percent_done":1.0,"total_bytes":9,"bytes_restored":9,"files_restored":3}',
            (3, 9, 9, 100),
            id="a restore",
        ),
        pytest.param(
            '{"message_type":"status","percent_done":"x","files_done":-1,"bytes_done":[]}',
            (0, 0, None, None),
            id="what nobody writes",
        ),
        pytest.param('{"message_type":"summary"}', (None, None, None, None), id="no status line among the last"),
    ],
)
def test_the_numbers_of_a_status_line(line: str, expected: tuple[int | None, ...]) -> None:
    found = mover_log.mover_progress(f"2026-01-05T02:00:07Z {line}\n")
    assert found is not None
    assert (found.files, found.bytes, found.total_bytes, found.percent) == expected


def test_a_status_that_can_not_be_read_stops_its_own_run_and_only_marks_it_for_others() -> None:
    wrong = body("Snapshot", "lowtide.dev/v1alpha1", spec={"policyName": "p"}, status={"attempt": "many"})
    with pytest.raises(InvalidObject):
        parse.snapshot(wrong, strict=True)
    found = parse.snapshot(wrong)
    assert found.spec is None
    assert found.invalid
    assert not found.fresh


async def test_a_read_that_fails_fails_the_whole_observation() -> None:
    shop = Shop()
    shop.snapshot()
    gatherer = Gatherer(shop.cluster, "cluster", "lowtide")
    key = Key(Subject.SNAPSHOT, SHOP, "first")
    for kind in (kinds.POD, kinds.STATEFUL_SET, kinds.CLAIM, kinds.VOLUME, kinds.NODE, kinds.RESTORE):
        shop.cluster.fault = lambda call, failing=kind: Unreachable("no answer") if call.kind == failing else None
        with pytest.raises(Unreachable):
            await gatherer.gather(key)


async def test_the_run_is_read_before_everything_else() -> None:
    shop = Shop()
    shop.snapshot()
    shop.cluster.calls.clear()
    gathered = await Gatherer(shop.cluster, "cluster", "lowtide").gather(Key(Subject.SNAPSHOT, SHOP, "first"))
    assert shop.cluster.calls[0].verb == "get"
    assert shop.cluster.calls[0].kind == kinds.SNAPSHOT
    assert gathered is not None
    assert isinstance(gathered.observed, ObservedSnapshot)
    world = gathered.observed.world
    assert {workload.meta.name for workload in world.workloads} == {"web", "db"}
    assert {volume.name for volume in world.volumes} == {"pv-web-data", "pv-db-data"}
    assert [node.name for node in world.nodes] == ["n"]
    assert len(world.pods) == 3


async def test_attachments_are_read_where_a_driver_attaches_and_only_those_of_the_volumes() -> None:
    shop = Shop()
    shop.snapshot()
    shop.cluster.put(kinds.CSI_DRIVER, {"metadata": {"name": "d"}, "spec": {}})
    shop.cluster.put(kinds.VOLUME, {"metadata": {"name": "pv-db-data"}, "spec": {"csi": {"driver": "d"}}})
    for number, volume in enumerate(("pv-db-data", "another")):
        spec = {"nodeName": "n", "source": {"persistentVolumeName": volume}}
        shop.cluster.put(kinds.VOLUME_ATTACHMENT, {"metadata": {"name": f"va-{number}"}, "spec": spec})
    gathered = await Gatherer(shop.cluster, "cluster", "lowtide").gather(Key(Subject.SNAPSHOT, SHOP, "first"))
    assert gathered is not None
    assert isinstance(gathered.observed, ObservedSnapshot)
    assert [found.volume for found in gathered.observed.world.attachments] == ["pv-db-data"]


@pytest.mark.parametrize(
    ("purpose", "log", "second"),
    [
        pytest.param("backup", "", 1, id="one that reads has said nothing since it began"),
        pytest.param("stream", "2026-01-05T02:00:09Z text\n", 4, id="one that stores a stream waited for its command"),
        pytest.param("restore", '2026-01-05T02:00:09Z {"message_type":"notice"}\n', 9, id="one that writes did"),
        pytest.param("verdict", "", None, id="one that has nothing to tell may be silent"),
        pytest.param("backup", None, None, id="a log that can't be read tells nothing"),
    ],
)
async def test_since_when_a_mover_is_silent(purpose: str, log: str | None, second: int | None) -> None:
    shop = Shop()
    shop.snapshot()
    labels = {"lowtide.dev/run-uid": (shop.cluster.peek(kinds.SNAPSHOT, SHOP, "first") or {})["metadata"]["uid"]}
    state = {"running": {"startedAt": "2026-01-05T02:00:01Z"}}
    pod = {"metadata": {"name": "m", "namespace": SHOP, "labels": {**labels, "lowtide.dev/purpose": purpose}}}
    statuses = [{"name": "mover", "state": state}]
    if purpose == "stream":
        statuses.append({"name": "writer", "state": {"running": {"startedAt": "2026-01-05T02:00:04Z"}}})
    shop.cluster.put(kinds.POD, {**pod, "status": {"phase": "Running", "containerStatuses": statuses}})
    shop.cluster.logs[SHOP, "m"] = log or ""
    shop.cluster.fault = lambda call: Unreachable("no kubelet") if call.verb == "log" and log is None else None
    gathered = await Gatherer(shop.cluster, "cluster", "lowtide").gather(Key(Subject.SNAPSHOT, SHOP, "first"))
    assert gathered is not None
    assert isinstance(gathered.observed, ObservedSnapshot)
    (progress,) = [pod.progress for pod in gathered.observed.world.pods if pod.meta.name == "m"]
    assert (progress.time.second if progress is not None else None) == second


async def test_a_log_that_can_not_be_read_fails_nothing() -> None:
    shop = Shop()
    key = shop.snapshot()
    shop.cluster.fault = lambda call: Unreachable("no kubelet") if call.verb == "log" else None
    await shop.drive(key)
    assert shop.ready(key) == ("True", "Complete")


@pytest.mark.parametrize(
    ("status", "ready", "error"),
    [
        pytest.param(None, False, "", id="just made"),
        pytest.param({"readyToUse": True}, False, "", id="ready, but not bound to its content"),
        pytest.param({"boundVolumeSnapshotContentName": "c", "readyToUse": False}, False, "", id="being taken"),
        pytest.param({"boundVolumeSnapshotContentName": "c", "readyToUse": True}, True, "", id="ready"),
        pytest.param(
            {"boundVolumeSnapshotContentName": "c", "readyToUse": True, "error": {"message": "lost"}},
            False,
            "lost",
            id="with an error",
        ),
    ],
)
def test_when_a_volume_snapshot_is_ready(status: dict[str, object] | None, ready: bool, error: str) -> None:
    found = parse.volume_snapshot(body("VolumeSnapshot", "snapshot.storage.k8s.io/v1", spec={}, status=status or {}))
    assert (found.ready, found.error) == (ready, error)
    words = {"boundVolumeSnapshotContentName": "boundVolumeGroupSnapshotContentName"}
    told = {words.get(key, key): value for key, value in (status or {}).items()}
    group = parse.group_snapshot(body("VolumeGroupSnapshot", "groupsnapshot.storage.k8s.io/v1", spec={}, status=told))
    assert (group.ready, group.error) == (ready, error)
    assert group.bound == ("boundVolumeGroupSnapshotContentName" in told)


@pytest.mark.parametrize("group", ["snapshot", "groupsnapshot"])
@pytest.mark.parametrize(("annotated", "default"), [("same", True), ("other", False)])
def test_each_kind_of_snapshot_class_has_an_annotation_of_its_own(group: str, annotated: str, default: bool) -> None:
    names = ["snapshot", "groupsnapshot"]
    name = group if annotated == "same" else names[1 - names.index(group)]
    marks = {f"{name}.storage.kubernetes.io/is-default-class": "true"}
    made = body("VolumeSnapshotClass", f"{group}.storage.k8s.io/v1", driver="d", deletionPolicy="Delete")
    made["metadata"]["annotations"] = marks
    assert parse.snapshot_class(made).default is default


def test_the_newest_warning_about_a_claim_is_what_is_told() -> None:
    events = [
        {"type": "Warning", "message": "old", "lastTimestamp": "2026-01-05T02:00:00Z"},
        {"type": "Warning", "message": "no clones here", "lastTimestamp": "2026-01-05T02:00:09Z"},
        {"type": "Normal", "message": "waiting", "lastTimestamp": "2026-01-05T02:00:10Z"},
        {"type": "Warning", "message": "older still", "lastTimestamp": None, "eventTime": "2026-01-05T01:00:00Z"},
    ]
    assert parse.trouble(events) == "no clones here"
    assert parse.trouble([]) == ""


@pytest.mark.parametrize(
    ("kind", "selector", "text"),
    [
        (
            "Deployment",
            {
                "matchLabels": {"tier": "db", "app": "shop"},
                "matchExpressions": [
                    {"key": "a", "operator": "In", "values": ["1", "2"]},
                    {"key": "b", "operator": "NotIn", "values": ["3"]},
                    {"key": "c", "operator": "Exists"},
                    {"key": "d", "operator": "DoesNotExist"},
                ],
            },
            "app=shop,tier=db,a in (1,2),b notin (3),c,!d",
        ),
        ("StatefulSet", {"matchLabels": {"app": "shop"}}, "app=shop"),
        ("Job", {"matchLabels": {"app": "shop"}}, ""),
        ("ReplicationController", {"app": "shop"}, ""),
    ],
)
def test_the_selector_of_a_workloads_pods_is_as_the_api_server_takes_it(
    kind: str, selector: dict[str, Any], text: str
) -> None:
    body = {"apiVersion": "apps/v1", "kind": kind, "metadata": META, "spec": {"selector": selector}}
    assert parse.workload(body).selector == text
