"""The demo's page is fetched through the API server: a cluster whose Services this machine can't reach will do."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.cluster import host
from tests.cluster.kubectl import Kubectl
from tests.demo.shop import Shop

pytestmark = pytest.mark.apiserver

PAGE = "<h1>Low tide</h1>\n<p>Nothing here routes to Services.</p>\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[int]:
    """A folder served in place of the shop's pod, on the port that this answers."""
    (tmp_path / "index.html").write_text(PAGE)
    with ThreadingHTTPServer((host.address(), 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def shop(kubeconfig: Path) -> Shop:
    """A shop with a Service that leads nowhere yet, and a pod that is on no node."""
    kubectl, namespace = Kubectl(kubeconfig), f"page-{secrets.token_hex(4)}"
    kubectl("create", "namespace", namespace)
    pod = {"automountServiceAccountToken": False, "containers": [{"name": "web", "image": "web"}]}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": pod},
        namespace=namespace,
    )
    return Shop(kubectl, namespace)


def lead(shop: Shop, site: int) -> None:
    """Let the Service lead to the pod, and the pod have this machine's address: a kubelet and controllers, played."""
    address = host.address()
    status = {"podIP": address, "podIPs": [{"ip": address}]}
    shop.run("patch", "pod", "web", "--subresource=status", "--patch", json.dumps({"status": status}))
    pod = {"addresses": [address], "targetRef": {"kind": "Pod", "namespace": shop.namespace, "name": "web"}}
    shop.kubectl.apply(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "web", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [pod],
            "ports": [{"port": site}],
        },
        namespace=shop.namespace,
    )


def test_the_page_is_what_the_pod_behind_the_service_gives(shop: Shop, site: int) -> None:
    lead(shop, site)
    assert shop.served() == PAGE


def test_neither_a_missing_page_nor_a_missing_pod_is_a_page(shop: Shop, site: int, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no endpoints available"):
        shop.page()
    lead(shop, site)
    shop.served()
    (tmp_path / "index.html").unlink()
    with pytest.raises(OSError, match="NotFound"):
        shop.page()
