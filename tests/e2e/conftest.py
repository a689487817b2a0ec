"""Fixtures of the end-to-end tests: a real cluster, and a namespace for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.cluster import Cluster
from tests.cluster import cluster as running_cluster
from tests.cluster.waiting import wait_for


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """A healthy cluster with today's images in it. It stays up after the tests, so that the next run starts at once."""
    return running_cluster()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own; at the end it is deleted, and so is everything in it."""
    name = f"e2e-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    wait_for(
        f"the namespace {name} has its service account",
        lambda: cluster.kubectl.run("get", "serviceaccount", "default", "-n", name).returncode == 0,
        within=30,
    )
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait", "--timeout=120s", timeout=150)


@pytest.fixture
def snapshots(cluster: Cluster) -> str:
    """The VolumeSnapshotClass, for tests that take volume snapshots."""
    if not cluster.snapshot_class:
        pytest.skip("this cluster has no volume snapshots (kind has none; tests.cluster on a root machine has)")
    return cluster.snapshot_class
