"""The API server that integration tests rely on: it crashes, freezes and comes back as they need it, and forgets
nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster import processes
from tests.cluster.controlplane import ControlPlane, control_plane
from tests.cluster.waiting import wait_for

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """One of its own: other tests' API server is not to be killed."""
    with control_plane() as own:
        yield own
    assert not [process for process in own.processes.values() if process.alive()]


def test_what_was_written_is_there_after_a_crash_and_a_restart(plane: ControlPlane) -> None:
    plane.kubectl("create", "configmap", "kept", "--from-literal=tide=high")
    plane.kill()
    assert plane.kubectl.run("get", "configmap", "kept").returncode != 0
    plane.restart()
    assert plane.kubectl.get("configmap", "kept")["data"] == {"tide": "high"}


def test_a_frozen_server_answers_nothing_until_it_is_resumed(plane: ControlPlane) -> None:
    plane.stop()
    frozen = plane.kubectl.run("get", "namespaces", "--request-timeout=1s")
    plane.resume()
    assert "Timeout exceeded" in frozen.stderr or "deadline exceeded" in frozen.stderr
    plane.wait_ready()
    assert "default" in plane.kubectl("get", "namespaces")


def test_controllers_make_pods_of_a_statefulset_and_finalise_namespaces(plane: ControlPlane) -> None:
    plane.kubectl("create", "namespace", "harbour")
    labels = {"app": "shop"}
    plane.kubectl.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "shop", "namespace": "harbour"},
            "spec": {
                "serviceName": "shop",
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "shop", "image": "none.invalid/shop:1"}]},
                },
            },
        }
    )
    found = wait_for(
        "the StatefulSet's pod",
        lambda: plane.kubectl.run("get", "pod", "shop-0", "-n", "harbour", "-o", "json").stdout,
        within=60,
        every=0.2,
    )
    assert json.loads(found)["status"]["phase"] == "Pending"
    plane.kubectl("delete", "namespace", "harbour", "--timeout=60s")
    assert plane.kubectl.run("get", "namespace", "harbour").returncode != 0


def test_rights_are_checked(plane: ControlPlane) -> None:
    plane.kubectl("create", "serviceaccount", "nobody")
    refused = plane.kubectl.run("get", "secrets", "--as=system:serviceaccount:default:nobody")
    assert "forbidden" in refused.stderr


def test_a_program_is_known_by_its_start_time_not_by_its_pid_alone(plane: ControlPlane) -> None:
    server = plane.processes["kube-apiserver"]
    impostor = processes.Process(server.name, server.pid, server.started - 1, server.log)
    assert not impostor.alive()
    assert not impostor.send(9)
    assert server.alive()
