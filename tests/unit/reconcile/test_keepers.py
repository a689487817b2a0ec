"""From what the API server answers to what is written: an Application is found by its workload, held, and let go; and
what its release pod is told."""

from __future__ import annotations

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import Forbidden, NotServed
from lowtide_operator.cluster.memory import Call
from lowtide_operator.manifests import ReleasePods, release_job
from lowtide_operator.planning.allowed import ArgoMode
from lowtide_operator.planning.naming import HELD_LABEL, RUN_NAMESPACE_LABEL
from lowtide_operator.reconcile.keepers import Argo, paused_keepers, scaled_object
from tests.unit.manifests.cases import INSTALLATION, RELEASE
from tests.unit.reconcile.memory_world import SHOP, Object, Shop

SKIP = "argocd.argoproj.io/skip-reconcile"
PAUSE = Argo(ArgoMode.PAUSE)


def tracked(**spec: object) -> Shop:
    """A shop whose Deployment Argo CD keeps."""
    shop = Shop()
    web = shop.cluster.peek(kinds.DEPLOYMENT, SHOP, "web") or {}
    web["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": f"web-app:apps/Deployment:{SHOP}/web"}
    shop.cluster.put(kinds.DEPLOYMENT, web)
    whole = {"syncPolicy": {"automated": {"selfHeal": True}}, **spec}
    shop.cluster.put(kinds.APPLICATION, {"metadata": {"name": "web-app", "namespace": "argocd"}, "spec": whole})
    shop.driver._gatherer.argocd = PAUSE
    return shop


def application(shop: Shop) -> Object:
    found: Object = (shop.cluster.peek(kinds.APPLICATION, "argocd", "web-app") or {})["metadata"]
    return found


async def test_an_application_is_held_for_the_window_and_then_as_it_was() -> None:
    shop = tracked()
    before = application(shop)
    key = shop.snapshot()
    seen: list[tuple[str | None, int]] = []
    for _ in range(60):
        await shop.driver.reconcile(key)
        shop.step()
        shop.cluster.advance(2)
        seen.append(((application(shop).get("annotations") or {}).get(SKIP), shop.counts()["web"]))
    assert shop.ready(key) == ("True", "Complete")
    assert list(dict.fromkeys(seen)) == [(None, 2), ("true", 2), ("true", 0)]
    assert seen[-1] == (None, 2)
    assert {seen[n + 1] for n, each in enumerate(seen[:-1]) if each == ("true", 0)} <= {("true", 0), ("true", 2)}
    after = application(shop)
    assert not after.get("annotations")
    assert not after.get("labels")
    assert after["uid"] == before["uid"]


async def test_one_that_ignores_the_count_is_not_touched() -> None:
    rule = {"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"]}
    policy = {"automated": {"selfHeal": True}, "syncOptions": ["RespectIgnoreDifferences=true"]}
    shop = tracked(ignoreDifferences=[rule], syncPolicy=policy)
    key = shop.snapshot()
    await shop.drive(key)
    assert shop.ready(key) == ("True", "Complete")
    assert not [call for call in shop.mutations() if call.kind == kinds.APPLICATION]


@pytest.mark.parametrize(
    ("error", "ready"),
    [(NotServed("not there"), ("True", "Complete")), (Forbidden("not yours"), ("Unknown", "Forbidden"))],
    ids=["no Argo CD", "no right"],
)
async def test_applications_that_can_not_be_read(error: Exception, ready: tuple[str, str]) -> None:
    """Without the kind there is none; without the right the run says so, and stops nothing."""
    shop = tracked()

    def refuse(call: Call) -> Exception | None:
        return error if call.kind == kinds.APPLICATION else None

    shop.cluster.fault = refuse
    key = shop.snapshot()
    for _ in range(60):
        await shop.driver.reconcile(key)
        shop.step()
        shop.cluster.advance(2)
    assert shop.ready(key) == ready
    shop.assert_back()


async def test_only_the_applications_of_the_namespaces_own_runs_are_seen_as_paused() -> None:
    shop = Shop()
    for name, namespace in (("mine", SHOP), ("theirs", "other")):
        labels = {HELD_LABEL: "uid-gone", RUN_NAMESPACE_LABEL: namespace}
        metadata = {"name": name, "namespace": "argocd", "labels": labels}
        shop.cluster.put(kinds.APPLICATION, {"metadata": metadata, "spec": {}})
    found = await paused_keepers(shop.cluster, PAUSE, SHOP)
    assert [keeper.meta.name for keeper in found] == ["mine"]
    assert await paused_keepers(shop.cluster, Argo(), SHOP) == ()


READY = "ScaledObject is defined correctly and is ready for scaling"
RESTS = "ScaledObject is paused"


@pytest.mark.parametrize(
    ("annotations", "paused", "message", "rests"),
    [
        ({}, "False", READY, False),
        ({}, "True", READY, True),
        ({"autoscaling.keda.sh/paused-scale-in": "true"}, "True", READY, False),
        ({"autoscaling.keda.sh/paused-scale-in": "true"}, "True", RESTS, True),
        ({"autoscaling.keda.sh/paused-scale-out": "true"}, "True", READY, False),
        ({"autoscaling.keda.sh/paused-scale-out": "true"}, "False", RESTS, False),
    ],
)
def test_a_keda_that_is_paused_in_one_direction_only_goes_on_in_the_other(
    annotations: dict[str, str], paused: str, message: str, rests: bool
) -> None:
    """As the reconciler of KEDA 2.21 says it."""
    conditions = [
        {"type": "Paused", "status": paused, "message": RESTS},
        {"type": "Ready", "status": "True", "message": message},
    ]
    metadata = {"name": "web", "namespace": SHOP, "annotations": annotations}
    cluster = Shop().cluster
    spec = {"scaleTargetRef": {"name": "web"}}
    cluster.put(kinds.SCALED_OBJECT, {"metadata": metadata, "spec": spec, "status": {"conditions": conditions}})
    body = cluster.peek(kinds.SCALED_OBJECT, SHOP, "web") or {}
    assert scaled_object(body).paused is rests


def test_a_release_pod_is_told_where_applications_may_be_paused() -> None:
    def arguments(pods: ReleasePods) -> list[str]:
        containers = release_job(RELEASE, INSTALLATION, pods)["spec"]["template"]["spec"]["containers"]
        found: list[str] = containers[0]["args"]
        return found

    assert arguments(ReleasePods("lowtide", "release", argocd=("argocd", "team")))[-1] == "--argocd=argocd,team"
    assert not [word for word in arguments(ReleasePods("lowtide", "release")) if "argocd" in word]
