"""The node under a run is drained: mover and operator are evicted by a real kubelet, and the run goes on after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.clusters import Cluster
from tests.cluster.waiting import wait_for
from tests.demo.install import install, repository_secret
from tests.demo.shop import Shop
from tests.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.s3]

SECRET = "shop-repository"


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[list[str]]:
    """The nodes, which take pods again after the test, whatever came of it."""
    names = [node["metadata"]["name"] for node in cluster.kubectl.get("nodes")["items"]]
    yield names
    cluster.kubectl("uncordon", *names)


@pytest.mark.zoo("drained")
def test_the_only_nodes_are_drained_in_the_middle_of_a_run(
    cluster: Cluster, namespace: str, s3: S3Server, nodes: list[str]
) -> None:
    """Nothing can run until they are back; then the operator goes on where it was."""
    install(cluster)
    shop = Shop(cluster.kubectl, namespace)
    shop.apply("shop.yaml", **cluster.images.shop_values)
    shop.run("apply", "-f", "-", stdin=repository_secret(SECRET, s3.repository(namespace), "secret", s3.environment))
    shop.ready()
    shop.write_page("<h1>before</h1>")
    shop.apply("policy.yaml")
    shop.apply("snapshot.yaml")
    wait_for("the workloads are stopped", lambda: shop.replicas() == {"web": 0, "db": 0}, within=120)
    options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=100s")
    cluster.kubectl("drain", *nodes, *options, timeout=120)
    cluster.kubectl("uncordon", *nodes)
    shop.condition("snapshots", "before-upgrade")
    assert shop.replicas() == {"web": 2, "db": 1}
    shop.ready()
    assert shop.served() == "<h1>before</h1>"
