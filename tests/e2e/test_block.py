"""Block volumes on a real Kubernetes: a raw device is saved as one file, by every method, and comes back."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests import programs
from tests.cluster.clusters import Cluster
from tests.cluster.waiting import wait_for
from tests.demo.one_volume import CLAIM, DEVICE, OneVolume, ready
from tests.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.oracle, pytest.mark.s3]

PASSWORD = "a password for the tests"
MIB = 1 << 20
SIZE = 64 * MIB
FILL = (
    f"dd if=/dev/urandom of={DEVICE} bs=1M count=3 seek=5 conv=fsync,notrunc && "
    f"dd if=/dev/urandom of={DEVICE} bs=512 count=1 seek={SIZE // 512 - 1} conv=fsync,notrunc"
)
SUM = f"sha256sum < {DEVICE}"


@pytest.fixture
def app(installed: Cluster, snapshots: str, namespace: str, s3: S3Server) -> Iterator[OneVolume]:
    """A pod that has a device with a little data on it; at the end nothing of the device is left on the machine."""
    app = OneVolume(installed, namespace)
    app.set_up(storage_class=installed.storage_class, size="64Mi", block=True, user=None)
    app.repository(s3.repository(namespace), PASSWORD, s3.environment)
    app.shell(FILL)
    yield app
    volumes = [volume["metadata"]["name"] for volume in installed.kubectl.get("persistentvolumes")["items"]]
    app.run("delete", "deployment,persistentvolumeclaim", "--all", "--wait", "--timeout=120s")
    wait_for("no device of it is left", lambda: not any(name in loop_devices() for name in volumes), within=60)


def loop_devices() -> str:
    return subprocess.run(["losetup", "--list"], check=True, capture_output=True, text=True).stdout


def sum_of(app: OneVolume) -> str:
    return app.shell(SUM).split()[0]


def stored(app: OneVolume, s3: S3Server, snapshot_id: str) -> bytes:
    """The device's content, as restic's own program reads it."""
    environment = {
        **os.environ,
        **s3.environment,
        "RESTIC_REPOSITORY": s3.repository(app.namespace),
        "RESTIC_PASSWORD": PASSWORD,
    }
    command = [programs.program("restic"), "--no-cache", "dump", snapshot_id, f"/volumes/{CLAIM}.img"]
    return subprocess.run(command, env=environment, check=True, capture_output=True).stdout


@pytest.mark.parametrize("method", ["Direct", "Snapshot", "Clone"])
def test_a_device_is_one_file_of_the_snapshot_that_restic_reads(app: OneVolume, s3: S3Server, method: str) -> None:
    before = sum_of(app)
    app.policy("disk", method=method)
    status = app.snapshot("first", "disk")
    (volume,) = status["volumes"]
    assert (volume["files"], volume["bytes"]) == (1, SIZE)
    assert volume["addedBytes"] < 8 * MIB, "zeros were stored"
    content = stored(app, s3, volume["snapshotId"])
    assert len(content) == SIZE
    assert hashlib.sha256(content).hexdigest() == before
    assert app.run("get", "persistentvolumeclaims", "-o", "name").split() == [f"persistentvolumeclaim/{CLAIM}"]


def test_a_device_comes_back_in_place_and_as_a_new_one(app: OneVolume) -> None:
    before = sum_of(app)
    app.policy("disk", method="Snapshot")
    app.snapshot("first", "disk")
    app.ready()
    app.shell(f"dd if=/dev/urandom of={DEVICE} bs=1M count=40 conv=fsync,notrunc")
    spoilt = sum_of(app)
    assert spoilt != before

    app.restore("again", {"newClaim": {"name": "copy"}})
    app.succeeded("restores", "again")
    assert (
        app.cluster.kubectl.get("-n", app.namespace, "persistentvolumeclaim", "copy")["spec"]["volumeMode"] == "Block"
    )
    assert sum_of(app) == spoilt, "the device that was backed up was written to"

    app.restore("back")
    app.succeeded("restores", "back")
    app.ready()
    assert sum_of(app) == before
    swap = (
        '[{"op": "replace", "value": "copy", "path": "/spec/template/spec/volumes/0/persistentVolumeClaim/claimName"}]'
    )
    app.run("patch", "deployment", "web", "--type=json", "-p", swap)
    app.ready()
    assert sum_of(app) == before

    app.restore("less", {"newClaim": {"name": "small", "size": "32Mi"}})
    refused = ready(app.ended("restores", "less"))
    assert (refused["status"], refused["reason"]) == ("False", "SizeTooSmall")
