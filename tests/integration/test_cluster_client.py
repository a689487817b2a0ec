"""The real client against a real API server: what Cluster promises."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import AlreadyExists, Conflict, Forbidden, NotFound, Rejected, Unreachable
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.cluster.real import KubernetesCluster
from tests.cluster.controlplane import ControlPlane

pytestmark = pytest.mark.apiserver

LEASE = {"metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"holderIdentity": "me", "leaseDurationSeconds": 5}}


@pytest.fixture
async def cluster(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubernetesCluster]:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    async with await KubernetesCluster.connect() as made:
        yield made


@pytest.fixture
def place(control_plane: ControlPlane) -> Iterator[str]:
    name = f"client-{uuid.uuid4().hex[:8]}"
    control_plane.kubectl("create", "namespace", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


async def test_objects_are_made_found_changed_and_deleted(cluster: KubernetesCluster, place: str) -> None:
    assert await cluster.get(kinds.LEASE, place, "a") is None
    made = await cluster.create(kinds.LEASE, place, body(LEASE))
    with pytest.raises(AlreadyExists):
        await cluster.create(kinds.LEASE, place, body(LEASE))
    patch = {"metadata": {"labels": {"x": None, "y": "2"}}, "spec": {"leaseDurationSeconds": 7}}
    changed = await cluster.merge_patch(kinds.LEASE, place, "a", patch)
    assert changed["metadata"]["labels"] == {"y": "2"}
    assert changed["spec"] == {"holderIdentity": "me", "leaseDurationSeconds": 7}
    for wrong in ({"resourceVersion": made["metadata"]["resourceVersion"]}, {"uid": str(uuid.uuid4())}):
        with pytest.raises(Conflict):
            await cluster.merge_patch(kinds.LEASE, place, "a", {"metadata": wrong, "spec": {"leaseDurationSeconds": 8}})
    with pytest.raises(Conflict):
        await cluster.delete(kinds.LEASE, place, "a", uid=str(uuid.uuid4()))
    await cluster.delete(kinds.LEASE, place, "a", uid=made["metadata"]["uid"])
    await cluster.delete(kinds.LEASE, place, "a", uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await cluster.merge_patch(kinds.LEASE, place, "a", {"spec": {}})
    with pytest.raises(Rejected):
        await cluster.create(kinds.LEASE, place, body({**LEASE, "spec": {"leaseDurationSeconds": -1}}))


async def test_lists_are_whole_selected_and_say_what_they_hold(
    cluster: KubernetesCluster, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowtide_operator.cluster.real.PAGE", 3)
    for number in range(8):
        labels = {"even": str(number % 2 == 0).lower()}
        await cluster.create(kinds.LEASE, place, body({**LEASE, "metadata": {"name": f"l-{number}", "labels": labels}}))
    found = await cluster.list(kinds.LEASE, place)
    assert sorted(entry["metadata"]["name"] for entry in found) == [f"l-{number}" for number in range(8)]
    assert all(entry["kind"] == "Lease" and entry["apiVersion"] == "coordination.k8s.io/v1" for entry in found)
    assert len(await cluster.list(kinds.LEASE, place, labels="even=true")) == 4
    assert len(await cluster.list(kinds.LEASE, place, fields="metadata.name=l-3")) == 1


async def test_a_kind_that_is_not_served_is_never_taken_for_an_empty_list(cluster: KubernetesCluster) -> None:
    unknown = Kind("example.org", "v1", "things", "Thing")
    with pytest.raises(Unreachable):
        await cluster.list(unknown, None)
    with pytest.raises(Unreachable):
        await cluster.get(unknown, "default", "a")


async def test_the_time_is_the_api_servers(cluster: KubernetesCluster) -> None:
    """In whole seconds, as its answers have it."""
    began = datetime.now(UTC)
    await cluster.get(kinds.NAMESPACE, None, "default")
    assert began - timedelta(seconds=1) <= cluster.now() <= datetime.now(UTC)


async def test_what_the_account_may_not_do_is_forbidden(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig_of("proxy")))
    async with await KubernetesCluster.connect() as made:
        with pytest.raises(Forbidden, match="secrets"):
            await made.list(Kind("", "v1", "secrets", "Secret"), "default")


async def test_an_api_server_that_is_frozen_is_unreachable_in_time(
    cluster: KubernetesCluster, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.get(kinds.NAMESPACE, None, "default")
    control_plane.stop()
    try:
        with monkeypatch.context() as hasty:
            hasty.setattr("lowtide_operator.cluster.real.REQUEST_SECONDS", 1.0)
            with pytest.raises(Unreachable):
                await cluster.get(kinds.NAMESPACE, None, "default")
    finally:
        control_plane.resume()
    control_plane.wait_ready()
    assert await cluster.get(kinds.NAMESPACE, None, "default") is not None


def body(lease: dict[str, object]) -> dict[str, object]:
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease}
