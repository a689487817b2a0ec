"""The definitions of other tools' kinds, from the Go modules of those tools, for tests that need the kinds only."""

from __future__ import annotations

from pathlib import Path

from tests import programs
from tests.cluster.kubectl import Kubectl
from tests.cluster.waiting import wait_for


def define_keda(kubectl: Kubectl) -> None:
    """All of KEDA's."""
    keda = programs.module_source("keda", "github.com/kedacore/keda/v2")
    for path in sorted((keda / "config" / "crd" / "bases").iterdir()):
        group, _, plural = path.stem.partition("_")
        _define(kubectl, f"{plural}.{group}", str(path))


def define_applications(kubectl: Kubectl) -> None:
    """Argo CD's Application."""
    argocd = programs.module_source("argo-cd", "github.com/argoproj/argo-cd/v3")
    _define(kubectl, "applications.argoproj.io", str(argocd / "manifests" / "crds" / "application-crd.yaml"))


def define_kustomizations(kubectl: Kubectl) -> None:
    """Flux's Kustomization, and the sources that it may have."""
    flux = programs.module_source("kustomize-controller", "github.com/fluxcd/kustomize-controller")
    bases = Path("config", "crd", "bases")
    path = flux / bases / "kustomize.toolkit.fluxcd.io_kustomizations.yaml"
    _define(kubectl, "kustomizations.kustomize.toolkit.fluxcd.io", str(path))
    sources = programs.module_source("source-controller", "github.com/fluxcd/source-controller")
    for plural in ("gitrepositories", "ocirepositories", "buckets"):
        path = sources / bases / f"source.toolkit.fluxcd.io_{plural}.yaml"
        _define(kubectl, f"{plural}.source.toolkit.fluxcd.io", str(path))


def _define(kubectl: Kubectl, name: str, path: str) -> None:
    """Apply one definition, and wait until the API server serves the kind."""
    kubectl("apply", "--server-side", "-f", path)
    wait_for(f"the API server serves {name}", lambda: kubectl.run("get", name).returncode == 0, within=60, every=0.2)
