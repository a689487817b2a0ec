"""The release pod on a real Kubernetes: the operator is gone for good, and the workloads come back all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.clusters import Cluster
from tests.cluster.kubectl import Kubectl
from tests.cluster.waiting import wait_for
from tests.demo.install import install, repository_secret
from tests.demo.shop import Shop, manifest
from tests.s3 import s3_server

pytestmark = [pytest.mark.cluster, pytest.mark.s3]

SHORT = "  quiesce:\n    timeout: 1m\n    maxDowntime: 1m\n"
WANTED = {"web": 2, "db": 1}


@pytest.fixture
def shop(cluster: Cluster, namespace: str) -> Iterator[Shop]:
    """A shop with a page and a policy whose window is short. The operator is put back at the end."""
    install(cluster)
    shop = Shop(cluster.kubectl, namespace)
    shop.apply("shop.yaml", **cluster.images.shop_values)
    with s3_server(address=cluster.address) as s3:
        secret = repository_secret("shop-repository", s3.repository(namespace), "a password", s3.environment)
        shop.run("apply", "-f", "-", stdin=secret)
        shop.ready()
        shop.write_page("<h1>before</h1>")
        shop.run("apply", "-f", "-", stdin=manifest("policy.yaml") + SHORT)
        yield shop
        operator(cluster.kubectl, 1)


def operator(kubectl: Kubectl, replicas: int) -> None:
    """Scale the operator, and wait until it is there, or gone without having had time for anything."""
    kubectl("-n", "lowtide", "scale", "deployment/lowtide", f"--replicas={replicas}")
    if replicas:
        kubectl("-n", "lowtide", "rollout", "status", "deployment/lowtide", "--timeout=120s")
        return
    chosen = ("-l", "app.kubernetes.io/component=operator")
    kubectl("-n", "lowtide", "delete", "pods", *chosen, "--force", "--grace-period=0")
    wait_for("the operator is gone", lambda: not kubectl.get("-n", "lowtide", "pods", *chosen)["items"], within=60)


def release_pods(shop: Shop) -> dict[str, bool]:
    """The release pods of the shop's run by name, and whether they are ready."""
    uid = shop.kubectl.get("-n", shop.namespace, "snapshots.lowtide.dev", "before-upgrade")["metadata"]["uid"]
    pods = shop.kubectl.get("-n", "lowtide", "pods", "-l", f"lowtide.dev/release-of={uid}")["items"]
    return {
        pod["metadata"]["name"]: any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in pod.get("status", {}).get("conditions", [])
        )
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"] and pod.get("status", {}).get("phase") != "Failed"
    }


def test_without_an_operator_and_after_an_eviction_the_release_pod_brings_the_workloads_back(shop: Shop) -> None:
    shop.apply("snapshot.yaml")
    wait_for("something is stopped", lambda: 0 in shop.replicas().values(), within=180, every=0.2)
    assert any(release_pods(shop).values()), "armed before anything is stopped"
    operator(shop.kubectl, 0)
    assert 0 in shop.replicas().values(), "the operator died in the window"

    (evicted,) = release_pods(shop)
    where = f"/api/v1/namespaces/lowtide/pods/{evicted}/eviction"
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": evicted, "namespace": "lowtide"}}
    shop.kubectl("create", "--raw", where, "-f", "-", stdin=json.dumps(eviction))
    wait_for(
        "another release pod is ready",
        lambda: [name for name, ready in release_pods(shop).items() if ready and name != evicted],
        within=60,
        seen=lambda: str(release_pods(shop)),
    )

    wait_for("the counts are back", lambda: shop.replicas() == WANTED, within=180, seen=lambda: logs(shop))
    shop.ready()
    assert shop.served() == "<h1>before</h1>"
    held = shop.kubectl.get("-n", shop.namespace, "deployments,statefulsets", "-l", "lowtide.dev/held")
    assert held["items"] == []

    operator(shop.kubectl, 1)
    shop.run("wait", "--for=condition=Stalled", "snapshots.lowtide.dev/before-upgrade", "--timeout=120s", timeout=150)
    status = shop.kubectl.get("-n", shop.namespace, "snapshots.lowtide.dev", "before-upgrade")["status"]
    assert status["failure"]["reason"] == "MaxDowntimeExceeded"
    assert {entry["state"] for entry in status["quiesce"]["workloads"]} == {"Released"}
    wait_for("its release pod is dismissed", lambda: not release_pods(shop), within=120)
    assert shop.replicas() == WANTED


def logs(shop: Shop) -> str:
    """What the release pods say."""
    chosen = ("-l", "app.kubernetes.io/component=release", "--tail=30")
    return shop.kubectl.run("-n", "lowtide", "logs", *chosen).stdout
