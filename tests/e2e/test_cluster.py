"""The cluster that the end-to-end tests rely on: pods, volumes, snapshots, clones, Services, logs and exec are real."""

from __future__ import annotations

import pytest

from tests.cluster import Cluster
from tests.cluster.manifests import claim, pod, snapshot
from tests.cluster.waiting import wait_for
from tests.s3 import s3_server

pytestmark = pytest.mark.cluster


def _run_to_end(
    cluster: Cluster, namespace: str, name: str, script: str, claims: dict[str, str], *, image: str = ""
) -> str:
    """Run a shell script in a pod until it has ended; answers its log, and fails with it where the script failed."""
    cluster.kubectl.apply(
        pod(name, image or cluster.images.apps, ["sh", "-ec", script], claims=claims), namespace=namespace
    )

    def phase() -> str:
        shown = cluster.kubectl("get", "pod", name, "-n", namespace, "-o", "jsonpath={.status.phase}")
        return shown if shown in ("Succeeded", "Failed") else ""

    ended = wait_for(f"the pod {name} ends", phase, within=90, every=0.2)
    log = cluster.kubectl("logs", name, "-n", namespace)
    assert ended == "Succeeded", log
    return log


@pytest.mark.parametrize("waiting", [False, True], ids=["bound at once", "bound when a pod wants it"])
def test_a_pod_finds_in_its_volume_what_an_earlier_pod_wrote(cluster: Cluster, namespace: str, waiting: bool) -> None:
    chosen = cluster.waiting_storage_class if waiting else cluster.storage_class
    cluster.kubectl.apply(claim("data", chosen), namespace=namespace)
    _run_to_end(cluster, namespace, "writer", "echo high > /data/tide; sync", {"/data": "data"})
    assert _run_to_end(cluster, namespace, "reader", "cat /data/tide", {"/data": "data"}) == "high\n"


def test_a_snapshot_keeps_what_was_there_and_a_claim_from_it_has_it(
    cluster: Cluster, namespace: str, snapshots: str
) -> None:
    cluster.kubectl.apply(claim("data", cluster.storage_class), namespace=namespace)
    _run_to_end(cluster, namespace, "writer", "echo before > /data/tide", {"/data": "data"})
    cluster.kubectl.apply(snapshot("moment", "data", snapshots), namespace=namespace)
    cluster.kubectl(
        *("wait", "volumesnapshot/moment", "-n", namespace),
        *("--for=jsonpath={.status.readyToUse}=true", "--timeout=60s"),
    )
    _run_to_end(cluster, namespace, "overwriter", "echo after > /data/tide", {"/data": "data"})
    source = {"kind": "VolumeSnapshot", "name": "moment"}
    cluster.kubectl.apply(claim("restored", cluster.storage_class, source=source), namespace=namespace)
    found = _run_to_end(cluster, namespace, "reader", "cat /then/tide /now/tide", {"/then": "restored", "/now": "data"})
    assert found == "before\nafter\n"


def test_a_clone_of_a_claim_has_its_data_and_goes_its_own_way(cluster: Cluster, namespace: str, snapshots: str) -> None:
    cluster.kubectl.apply(claim("data", cluster.storage_class), namespace=namespace)
    _run_to_end(cluster, namespace, "writer", "echo one > /data/tide", {"/data": "data"})
    source = {"kind": "PersistentVolumeClaim", "name": "data"}
    cluster.kubectl.apply(claim("copy", cluster.storage_class, source=source), namespace=namespace)
    script = "cat /copy/tide; echo two > /copy/tide; cat /data/tide"
    assert _run_to_end(cluster, namespace, "both", script, {"/data": "data", "/copy": "copy"}) == "one\none\n"


def test_a_pod_reaches_the_api_server_by_its_service(cluster: Cluster, namespace: str) -> None:
    script = (
        "cd /var/run/secrets/kubernetes.io/serviceaccount;"
        ' curl --fail --silent --cacert ca.crt -H "Authorization: Bearer $(cat token)"'
        " https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/version"
    )
    assert '"gitVersion"' in _run_to_end(cluster, namespace, "client", script, {})


@pytest.mark.s3
def test_a_pod_reaches_an_s3_server_on_this_machine(cluster: Cluster, namespace: str) -> None:
    with s3_server(address=cluster.address) as server:
        script = f"curl --silent --output /dev/null --write-out '%{{http_code}}' {server.endpoint}/{server.bucket}/none"
        assert _run_to_end(cluster, namespace, "client", script, {}) == "403"


def test_commands_run_in_a_pod_and_its_log_is_read(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl.apply(
        pod("server", cluster.images.apps, ["sh", "-c", "echo serving; exec sleep infinity"]), namespace=namespace
    )
    cluster.kubectl("wait", "pod/server", "-n", namespace, "--for=condition=Ready", "--timeout=60s")
    # It is Ready once it was started, which may be before it has said anything.
    said = wait_for("it says something", lambda: cluster.kubectl("logs", "server", "-n", namespace), within=60)
    assert said == "serving\n"
    answer = cluster.kubectl("exec", "-i", "server", "-n", namespace, "--", "cat", stdin="echoed")
    assert answer == "echoed"


def test_the_projects_image_has_both_programs_and_runs_as_nobody(cluster: Cluster, namespace: str) -> None:
    script = (
        "lowtide --help; command -v lowtide-operator;"
        ' python3 -c "import lowtide_engine._kernel, lowtide_operator.__main__"; id -u'
    )
    shown = _run_to_end(cluster, namespace, "image", script, {}, image=cluster.images.lowtide)
    assert shown.startswith("Usage: lowtide")
    assert shown.endswith("/lowtide-operator\n65532\n")
