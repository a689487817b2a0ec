"""The node's kubelet stops for a while at each step of a run that has a stream, hooks and a copy, and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import programs
from tests.cluster import machine
from tests.cluster.clusters import Cluster
from tests.cluster.processes import Process
from tests.cluster.waiting import wait_for
from tests.demo.install import install
from tests.demo.one_volume import CLAIM, SECRET, STARTS, OneVolume, ready
from tests.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.oracle, pytest.mark.s3]

PASSWORD = "a password for the tests"
STOPPED_SECONDS = 6
"""Longer than any part of a run looks again after; the node is not lost yet (50 s)."""
HOOKS = {
    name: [{"workload": {"kind": "Deployment", "name": "web"}, "command": ["sh", "-c", f"echo {name} >> /data/{name}"]}]
    for name in ("before", "after")
}


@pytest.fixture
def kubelet(cluster: Cluster) -> Process:
    running = machine.load()
    if running is None or running.kubeconfig != cluster.kubeconfig:
        pytest.skip("the kubelet of this cluster is no process that the tests started")
    return next(process for process in running.processes if process.name == "kubelet")


@pytest.fixture
def app(cluster: Cluster, namespace: str, s3: S3Server) -> OneVolume:
    install(cluster, values={"streams.allow": "true", "exec.namespaces": f"{{{namespace}}}"})
    app = OneVolume(cluster, namespace)
    app.set_up(storage_class=cluster.storage_class)
    app.repository(s3.repository(namespace), PASSWORD, s3.environment)
    return app


def at_each_step(app: OneVolume, happens: Callable[[], None]) -> list[str]:
    """Have it happen whenever the Snapshot's conditions have others reasons, until it has ended; the steps."""
    steps: list[str] = []

    def next_step() -> str | None:
        status = app.status("snapshots", "first")
        reasons = [f"{entry['type']}: {entry['reason']}" for entry in status.get("conditions", [])]
        step = "the end" if status.get("endTime") else ", ".join(reasons)
        return step if step and step not in steps[-1:] else None

    while steps[-1:] != ["the end"]:
        steps.append(wait_for("the run makes a step", next_step, within=180, every=0.1, seen=lambda: f"{steps}"))
        if steps[-1] != "the end":
            happens()
    return steps


def test_a_kubelet_that_stops_at_each_step_costs_nothing_but_time(
    snapshots: str, app: OneVolume, kubelet: Process, s3: S3Server, tmp_path: Path
) -> None:
    def happens() -> None:
        kubelet.send(signal.SIGSTOP)
        try:
            time.sleep(STOPPED_SECONDS)
        finally:
            kubelet.send(signal.SIGCONT)

    stream = {"name": "words", "container": {"image": app.cluster.images.apps, "command": ["echo", "of a stream"]}}
    spec = {"repository": {"secretName": SECRET}, "volumes": {"claims": [CLAIM]}, "capture": {"method": "Snapshot"}}
    app.ours("BackupPolicy", "whole", {**spec, "streams": [stream], "hooks": HOOKS})
    app.ours("Snapshot", "first", {"policyName": "whole"})
    steps = at_each_step(app, happens)

    assert len(steps) >= 8, steps
    status = app.status("snapshots", "first")
    assert ready(status)["status"] == "True", ready(status)
    app.ready()
    assert app.shell(f"cat {STARTS} /data/before /data/after").split() == ["started", "started", "before", "after"]
    (volume,), (stored,) = status["volumes"], status["streams"]
    environment = {**os.environ, **s3.environment, "RESTIC_PASSWORD": PASSWORD}
    environment["RESTIC_REPOSITORY"] = s3.repository(app.namespace)
    for snapshot in (volume["snapshotId"], stored["snapshotId"]):
        restore = [programs.program("restic"), "--no-cache", "restore", snapshot, "--target", str(tmp_path)]
        subprocess.run(restore, env=environment, check=True, capture_output=True)
    assert (tmp_path / "streams" / "words").read_text() == "of a stream\n"
    assert (tmp_path / "volumes" / CLAIM / "starts").read_text() == "started\n"
    wait_for("no Job is left", lambda: app.run("get", "jobs", "-o", "name") == "", within=60)
    wait_for(
        "no copy is left",
        lambda: app.run("get", "volumesnapshots.snapshot.storage.k8s.io", "-o", "name") == "",
        within=60,
    )
    assert app.run("get", "persistentvolumeclaims", "-o", "name").split() == [f"persistentvolumeclaim/{CLAIM}"]
