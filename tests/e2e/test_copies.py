"""Capture by copies on a real Kubernetes, with a CSI driver whose snapshots and clones are real."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests import programs
from tests.cluster.clusters import Cluster
from tests.cluster.waiting import wait_for
from tests.demo.install import install
from tests.demo.one_volume import CLAIM, STARTS, OneVolume
from tests.s3 import S3Server, s3_server

pytestmark = [pytest.mark.cluster, pytest.mark.oracle, pytest.mark.s3]

PASSWORD = "a password for the tests"
SUMS = "cd /data && find . -type f ! -name starts -exec sha256sum {} + | sort"


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    """Lowtide on the cluster, for all namespaces."""
    install(cluster)
    return cluster


@pytest.fixture(scope="module")
def s3(cluster: Cluster) -> Iterator[S3Server]:
    """An S3 server that pods reach."""
    with s3_server(address=cluster.address) as server:
        yield server


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
    environment = {
        **os.environ,
        **s3.environment,
        "RESTIC_REPOSITORY": s3.repository(namespace),
        "RESTIC_PASSWORD": PASSWORD,
    }
    (volume,) = status["volumes"]
    restore = [programs.program("restic"), "--no-cache", "restore", volume["snapshotId"], "--target", str(tmp_path)]
    subprocess.run(restore, env=environment, check=True, capture_output=True)
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


def made_for(cluster: Cluster, namespace: str) -> set[str]:
    """The names of claims and VolumeSnapshots of the namespace for which the storage has something."""
    volumes = cluster.kubectl.get("persistentvolumes")["items"]
    contents = cluster.kubectl.get("volumesnapshotcontents.snapshot.storage.k8s.io")["items"]
    references = [volume["spec"].get("claimRef") or {} for volume in volumes]
    references += [content["spec"]["volumeSnapshotRef"] for content in contents]
    return {reference["name"] for reference in references if reference.get("namespace") == namespace}
