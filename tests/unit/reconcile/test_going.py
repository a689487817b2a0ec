"""A namespace that is deleted takes the operator's RoleBinding with it: what is left to do needs no right in it but
those that are given for the whole cluster."""

from __future__ import annotations

import logging

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import Forbidden
from lowtide_operator.cluster.memory import Call
from lowtide_operator.planning.allowed import ArgoMode
from lowtide_operator.planning.naming import FINALIZER, HELD_LABEL, RELEASE_OF_LABEL, RUN_NAMESPACE_LABEL
from lowtide_operator.planning.observed import ObservedOrphans
from lowtide_operator.reconcile.gather import Gatherer
from lowtide_operator.reconcile.keepers import Argo
from lowtide_operator.reconcile.keys import KIND_OF, Key, Subject
from tests.unit.reconcile.memory_world import SHOP, Shop

OTHER = "example.com/kept"


def revoke(shop: Shop) -> None:
    """The RoleBinding is gone; what the chart gives for all namespaces is left."""

    def fault(call: Call) -> BaseException | None:
        own = (
            call.kind in (kinds.SNAPSHOT, kinds.RESTORE)
            and call.verb in ("get", "list", "patch")
            and not call.subresource
        )
        return Forbidden(f"{call.verb} {call.kind}") if call.namespace == SHOP and not own else None

    shop.cluster.fault = fault


def delete_namespace(shop: Shop, *keys: Key) -> None:
    """As the namespace controller does: the namespace first, then what is in it."""
    times = {"deletionTimestamp": "2026-01-05T02:00:00Z"}
    shop.cluster.put(kinds.NAMESPACE, {"metadata": {"name": SHOP, **times}})
    for key in keys:
        body = shop.cluster.peek(KIND_OF[key.subject], SHOP, key.name)
        assert body is not None
        shop.cluster.put(KIND_OF[key.subject], {**body, "metadata": {**body["metadata"], **times}})


async def run_until_held(shop: Shop, key: Key) -> None:
    for _ in range(60):
        await shop.driver.reconcile(key)
        if len(shop.held()) == 2:
            return
        shop.step()
        shop.cluster.advance(1)
    raise AssertionError(shop.status(key))


@pytest.mark.parametrize("known", [True, False], ids=["the Lease is held", "the operator was started anew"])
async def test_a_run_is_let_go_and_keeps_nothing(known: bool, caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop()
    key = shop.snapshot(deletionPolicy="Delete")
    await run_until_held(shop, key)
    assert any(RELEASE_OF_LABEL in job["metadata"]["labels"] for job in shop.cluster.all(kinds.JOB))
    delete_namespace(shop, key)
    revoke(shop)
    if not known:
        shop.driver = shop.new_driver()
    with caplog.at_level(logging.WARNING):
        assert await shop.driver.reconcile(key) is None
    assert shop.cluster.peek(kinds.SNAPSHOT, SHOP, "first") is None
    assert "what was stored stays in the repository" in caplog.text
    left = [job["metadata"]["namespace"] for job in shop.cluster.all(kinds.JOB)]
    assert "lowtide" not in left, "its release pod is in another namespace"


async def test_a_snapshot_that_is_over_and_a_restore_are_let_go_too() -> None:
    shop = Shop()
    over = shop.snapshot(deletionPolicy="Delete")
    await shop.drive(over)
    assert shop.ready(over) == ("True", "Complete")
    back = shop.restore("back", source={"snapshotName": "first"}, volumes=[{"claim": "web-data"}])
    body = shop.cluster.peek(kinds.RESTORE, SHOP, "back") or {}
    shop.cluster.put(kinds.RESTORE, {**body, "metadata": {**body["metadata"], "finalizers": [FINALIZER, OTHER]}})
    delete_namespace(shop, over, back)
    revoke(shop)
    for key in (over, back):
        assert await shop.driver.reconcile(key) is None
    assert shop.cluster.peek(kinds.SNAPSHOT, SHOP, "first") is None
    found = shop.cluster.peek(kinds.RESTORE, SHOP, "back") or {}
    assert found["metadata"]["finalizers"] == [OTHER], "somebody else's is not ours to take"


async def test_before_the_deletion_has_come_to_the_run_it_is_only_waited_for() -> None:
    shop = Shop()
    key = shop.snapshot(deletionPolicy="Delete")
    await shop.drive(key)
    delete_namespace(shop)
    revoke(shop)
    shop.cluster.calls.clear()
    again = await shop.driver.reconcile(key)
    assert again is not None
    assert again <= 10
    assert shop.mutations() == []


async def test_where_only_the_rights_are_gone_nothing_is_let_go() -> None:
    shop = Shop()
    key = shop.snapshot(deletionPolicy="Delete")
    await shop.drive(key)
    revoke(shop)
    body = shop.cluster.peek(kinds.SNAPSHOT, SHOP, "first") or {}
    times = {"deletionTimestamp": "2026-01-05T02:00:00Z"}
    shop.cluster.put(kinds.SNAPSHOT, {**body, "metadata": {**body["metadata"], **times}})
    for _ in range(3):
        assert await shop.driver.reconcile(key) is not None
    found = shop.cluster.peek(kinds.SNAPSHOT, SHOP, "first") or {}
    assert found["metadata"]["finalizers"] == [FINALIZER]


async def test_the_metrics_of_a_namespace_that_is_gone_go_too() -> None:
    """Else what was held there would be told of for ever, and a policy that nobody can see."""
    shop = Shop()
    run, policy = shop.snapshot(), Key(Subject.POLICY, SHOP, "nightly")
    await run_until_held(shop, run)
    for key in (policy, Key(Subject.ORPHANS, SHOP)):
        await shop.driver.reconcile(key)
    labels = {"namespace": SHOP}
    assert sample(shop, "lowtide_held_workloads", labels) == 2
    assert sample(shop, "lowtide_policy_protected", {**labels, "policy": "nightly"}) is not None
    shop.cluster.remove(kinds.NAMESPACE, None, SHOP)
    revoke(shop)
    for key in (policy, Key(Subject.ORPHANS, SHOP)):
        assert await shop.driver.reconcile(key) is None
    assert sample(shop, "lowtide_held_workloads", labels) == 0
    assert sample(shop, "lowtide_policy_protected", {**labels, "policy": "nightly"}) is None


async def test_an_application_that_its_run_paused_is_still_found() -> None:
    shop = Shop()
    labels = {HELD_LABEL: "true", RUN_NAMESPACE_LABEL: SHOP}
    shop.cluster.put(kinds.APPLICATION, {"metadata": {"name": "web-app", "namespace": "argocd", "labels": labels}})
    delete_namespace(shop)
    revoke(shop)
    gathered = await Gatherer(shop.cluster, "cluster", "lowtide", Argo(ArgoMode.PAUSE)).gather(
        Key(Subject.ORPHANS, SHOP)
    )
    assert gathered is not None
    assert isinstance(gathered.observed, ObservedOrphans)
    assert [keeper.meta.name for keeper in gathered.observed.keepers] == ["web-app"]


def sample(shop: Shop, name: str, labels: dict[str, str]) -> float | None:
    return shop.metrics.registry.get_sample_value(name, labels)
