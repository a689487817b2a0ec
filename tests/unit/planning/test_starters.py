"""Who started a workload in the window, in words."""

from dataclasses import replace
from typing import Any

import pytest

from lowtide_operator.planning.starters import started_by
from tests.unit.planning.runs import RUN, cluster, counts, gone, message, outcome, status, until, workload

KUSTOMIZATION = {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}
RELEASE = {"helm.toolkit.fluxcd.io/name": "shop", "helm.toolkit.fluxcd.io/namespace": "web"}
TRACKED = {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:web/db"}


@pytest.mark.parametrize(
    ("writer", "meta", "words"),
    [
        ("", {}, "someone else"),
        ("unknown", {"labels": KUSTOMIZATION}, "someone else"),
        ("kubectl-scale", {"labels": KUSTOMIZATION}, "the field manager kubectl-scale"),
        (
            "kustomize-controller",
            {"labels": KUSTOMIZATION},
            "the field manager kustomize-controller (Flux, Kustomization flux-system/apps: leave spec.replicas out of "
            "what it applies)",
        ),
        (
            "kustomize-controller",
            {},
            "the field manager kustomize-controller (Flux, a Kustomization: leave spec.replicas out of what it "
            "applies)",
        ),
        (
            "helm-controller",
            {"labels": RELEASE},
            "the field manager helm-controller (Flux, HelmRelease web/shop: let its drift detection ignore "
            "/spec/replicas)",
        ),
        (
            "argocd-controller",
            {"annotations": TRACKED},
            "the field manager argocd-controller (Argo CD, Application shop: let its ignoreDifferences cover "
            "/spec/replicas, with RespectIgnoreDifferences=true)",
        ),
        (
            "argocd-controller",
            {},
            "the field manager argocd-controller (Argo CD, an Application: let its ignoreDifferences cover "
            "/spec/replicas, with RespectIgnoreDifferences=true)",
        ),
        (
            "keda",
            {},
            "the field manager keda (KEDA: look who takes autoscaling.keda.sh/paused off its ScaledObject, "
            "which pauses it for the run)",
        ),
    ],
)
def test_who_it_was_and_what_to_do(writer: str, meta: dict[str, Any], words: str) -> None:
    web = workload(cluster(), "web")
    assert started_by(replace(web, writer=writer, meta=replace(web.meta, **meta))) == words


def test_the_run_says_it() -> None:
    world = cluster()
    until(world, gone)
    web = workload(world, "web")
    world.scale(web, 2)
    world.workloads[web.meta.uid] = replace(workload(world, "web"), writer="kustomize-controller")
    world.run(RUN)
    assert outcome(world) == ("False", "Inconsistent")
    assert "Deployment web was started by the field manager kustomize-controller (Flux" in message(world)


def test_the_run_says_it_too_where_it_comes_before_the_hold_was_noted() -> None:
    world = cluster()
    until(world, lambda w: status(w).quiesce is not None)
    world.reconcile(*RUN, crash_after=2)
    assert counts(world) == {"db": 1, "web": 0}
    world.scale(workload(world, "web"), 2)
    web = workload(world, "web")
    world.workloads[web.meta.uid] = replace(web, writer="keda")
    world.run(RUN)
    assert outcome(world) == ("False", "WorkloadChanged")
    assert "Deployment web was changed right after it was stopped, by the field manager keda (KEDA" in message(world)
    assert counts(world) == {"db": 1, "web": 2}
