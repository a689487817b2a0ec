"""Fixtures of the end-to-end tests: a real cluster with Lowtide and an S3 server, and a namespace for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.cluster import Cluster
from tests.cluster import cluster as running_cluster
from tests.cluster.waiting import wait_for
from tests.demo.install import install
from tests.s3 import S3Server, s3_server


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """A healthy cluster with today's images in it. It stays up after the tests, so that the next run starts at once."""
    return running_cluster()


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    """Lowtide on the cluster, for all namespaces. A module whose tests need other values of the chart has its own."""
    install(cluster)
    return cluster


@pytest.fixture(scope="module")
def s3(cluster: Cluster) -> Iterator[S3Server]:
    """An S3 server that pods reach."""
    with s3_server(address=cluster.address) as server:
        yield server


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own; at the end it is deleted, and so is everything in it."""
    name = f"e2e-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    wait_for(
        f"the namespace {name} has its service account",
        lambda: cluster.kubectl.run("get", "serviceaccount", "default", "-n", name).returncode == 0,
        within=90,
    )
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait", "--timeout=120s", timeout=150)


@pytest.fixture
def snapshots(cluster: Cluster) -> str:
    """The VolumeSnapshotClass, for tests that take volume snapshots."""
    if not cluster.snapshot_class:
        pytest.skip("this cluster has no volume snapshots (kind has none; tests.cluster on a root machine has)")
    return cluster.snapshot_class
