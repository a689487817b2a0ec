"""Capture by copies on a real Kubernetes, with a CSI driver whose snapshots and clones are real."""

from __future__ import annotations

import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.cluster.clusters import Cluster
from tests.cluster.waiting import wait_for
from tests.demo.one_volume import CLAIM, STARTS, OneVolume
from tests.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.oracle, pytest.mark.s3]

PASSWORD = "a password for the tests"
SUMS = "cd /data && find . -type f ! -name starts -exec sha256sum {} + | sort"


@pytest.mark.parametrize(
    ("method", "waits", "mode"),
    [
        pytest.param("Snapshot", False, "ReadWriteOncePod", id="a snapshot of a claim that one pod may have"),
        pytest.param("Snapshot", True, "ReadWriteOnce", id="a snapshot in a class that waits for a consumer"),
        pytest.param("Clone", False, "ReadWriteOnce", id="a clone"),
        pytest.param("Clone", True, "ReadWriteOnce", id="a clone in a class that waits for a consumer"),
    ],
)
def test_the_workload_is_back_before_the_upload_and_the_backup_is_what_was_there_when_it_stopped(
    installed: Cluster,
    snapshots: str,
    namespace: str,
    s3: S3Server,
    tmp_path: Path,
    method: str,
    waits: bool,
    mode: str,
) -> None:
    app = OneVolume(installed, namespace)
    app.set_up(storage_class=installed.waiting_storage_class if waits else installed.storage_class, mode=mode)
    app.repository(s3.repository(namespace), PASSWORD, s3.environment)
    app.shell("head -c 60000000 /dev/urandom > /data/random; mkdir /data/deep; echo text > /data/deep/file; sync")
    before = app.shell(SUMS)

    app.policy("copies", method=method)
    status = app.snapshot("first", "copies")

    # The pod started a second time, and was ready, before a mover read anything.
    app.ready()
    ready = datetime.fromisoformat(status["quiesce"]["readyTime"])
    (mover,) = (job for job in status["jobs"] if job["purpose"] == "backup")
    assert ready <= datetime.fromisoformat(mover["createdAt"])
    assert app.shell(f"cat {STARTS}").splitlines() == ["started"] * 2
    assert status["upload"]
    assert status["downtime"]

    # restic reads the moment of the first stop, byte for byte.
    (volume,) = status["volumes"]
    restore(s3, namespace, volume["snapshotId"], tmp_path)
    folder = tmp_path / "volumes" / CLAIM
    assert (folder / "starts").read_text().splitlines() == ["started"]
    restored = subprocess.run(
        ["sh", "-ec", SUMS.replace("/data", str(folder))], check=True, capture_output=True, text=True
    )
    assert restored.stdout == before

    # Nothing is left of the copy: neither the objects nor, a moment later, what the driver made for them.
    assert app.run("get", "volumesnapshots.snapshot.storage.k8s.io", "-o", "name") == ""
    assert app.run("get", "persistentvolumeclaims", "-o", "name").split() == [f"persistentvolumeclaim/{CLAIM}"]
    wait_for("what the driver made is gone", lambda: made_for(installed, namespace) == {CLAIM}, within=120)


@pytest.mark.parametrize("method", ["Direct", "Snapshot", "Clone"])
def test_a_claim_that_is_only_read_is_read(
    installed: Cluster, snapshots: str, namespace: str, s3: S3Server, tmp_path: Path, method: str
) -> None:
    """It is a clone with the access mode ReadOnlyMany, and no workload uses it."""
    app = OneVolume(installed, namespace)
    app.set_up(storage_class=installed.storage_class)
    app.repository(s3.repository(namespace), PASSWORD, s3.environment)
    app.shell("echo text > /data/file; sync")
    spec = {
        "accessModes": ["ReadOnlyMany"],
        "storageClassName": installed.storage_class,
        "dataSource": {"kind": "PersistentVolumeClaim", "name": CLAIM},
        "resources": {"requests": {"storage": "2Gi"}},
    }
    app.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "archive"}, "spec": spec})
    policy = {"repository": {"secretName": "repository"}, "volumes": {"claims": ["archive"]}}
    mover = {"securityContext": {"runAsUser": 1000}}
    app.ours("BackupPolicy", "archives", {**policy, "capture": {"method": method}, "mover": mover})
    (volume,) = app.snapshot("first", "archives")["volumes"]
    restore(s3, namespace, volume["snapshotId"], tmp_path)
    assert (tmp_path / "volumes" / "archive" / "file").read_text() == "text\n"
    assert app.shell(f"cat {STARTS}").splitlines() == ["started"], "who uses another claim was not stopped"
    wait_for("what the driver made is gone", lambda: made_for(installed, namespace) == {CLAIM, "archive"}, within=120)


TWO = ("left", "right")
COUNTING = """
i=0
while true; do i=$((i + 1)); echo $i >> /left/count; echo $i >> /right/count; done
"""


@pytest.mark.zoo("group-snapshot")
def test_a_group_snapshot_has_one_moment_of_two_volumes_while_a_writer_counts_on_in_both(
    installed: Cluster, snapshots: str, namespace: str, s3: S3Server, tmp_path: Path
) -> None:
    """Ten thousands of lines a second go into the one and then into the other; none of it is stopped by Lowtide."""
    app = OneVolume(installed, namespace)
    for name in (*TWO, "other"):
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": installed.storage_class,
            "resources": {"requests": {"storage": "1Gi"}},
        }
        app.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec})
    app.apply(counting(installed))
    app.ready()
    app.repository(s3.repository(namespace), PASSWORD, s3.environment)
    wait_for("the writer counts", lambda: int(app.shell("wc -l < /right/count")) > 1000, within=60)

    volumes, capture = {"claims": list(TWO)}, {"method": "GroupSnapshot"}
    policy = {"repository": {"secretName": "repository"}, "volumes": volumes, "capture": capture}
    app.ours("BackupPolicy", "together", {**policy, "quiesce": {"strategy": "None"}})
    status = app.snapshot("first", "together")

    counts = {}
    for volume in status["volumes"]:
        restore(s3, namespace, volume["snapshotId"], tmp_path)
        name = volume["claim"]
        lines = (tmp_path / "volumes" / name / "count").read_text().splitlines()
        assert lines == [str(number) for number in range(1, len(lines) + 1)]
        counts[name] = len(lines)
    assert counts["right"] > 1000
    assert counts["left"] - counts["right"] in (0, 1)
    assert int(app.shell("tail -n 1 /right/count")) > counts["right"], "it counted on, and never began anew"

    kinds = ("volumegroupsnapshots.groupsnapshot.storage.k8s.io", "volumesnapshots.snapshot.storage.k8s.io")
    assert app.run("get", ",".join(kinds), "-o", "name") == ""
    claims = installed.kubectl.get("-n", namespace, "persistentvolumeclaims")["items"]
    assert {claim["metadata"]["name"] for claim in claims} == {*TWO, "other"}
    assert not any("lowtide.dev/group-snapshot" in (claim["metadata"].get("labels") or {}) for claim in claims)
    wait_for("what the driver made is gone", lambda: made_for(installed, namespace) == {*TWO, "other"}, within=120)


def counting(cluster: Cluster) -> dict[str, Any]:
    """The Deployment `web` with one pod that counts in two volumes."""
    container = {
        "name": "web",
        "image": cluster.images.apps,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", COUNTING],
        "resources": {"limits": {"cpu": "200m"}, "requests": {"cpu": "10m"}},
        "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in TWO],
    }
    pod = {
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in TWO],
    }
    labels = {"app": "web"}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "strategy": {"type": "Recreate"}}
    template = {"metadata": {"labels": labels}, "spec": pod}
    metadata = {"name": "web"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {**spec, "template": template}}


def restore(s3: S3Server, repository: str, snapshot: str, target: Path) -> None:
    """Restore a snapshot by the real restic."""
    environment = {
        **os.environ,
        **s3.environment,
        "RESTIC_REPOSITORY": s3.repository(repository),
        "RESTIC_PASSWORD": PASSWORD,
    }
    command = [programs.program("restic"), "--no-cache", "restore", snapshot, "--target", str(target)]
    subprocess.run(command, env=environment, check=True, capture_output=True)


def made_for(cluster: Cluster, namespace: str) -> set[str]:
    """The names of claims, VolumeSnapshots and groups of them of the namespace for which the storage has something."""
    volumes = cluster.kubectl.get("persistentvolumes")["items"]
    contents = cluster.kubectl.get("volumesnapshotcontents.snapshot.storage.k8s.io")["items"]
    references = [volume["spec"].get("claimRef") or {} for volume in volumes]
    references += [content["spec"]["volumeSnapshotRef"] for content in contents]
    groups = cluster.kubectl.get("volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io")["items"]
    references += [group["spec"]["volumeGroupSnapshotRef"] for group in groups]
    return {reference["name"] for reference in references if reference.get("namespace") == namespace}
