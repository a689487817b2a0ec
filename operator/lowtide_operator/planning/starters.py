"""Who started a workload that a run holds down, and how each says for itself that it is to leave the count alone.

What a workload tells of itself is enough to name them: the field manager that set the count (managedFields), and the
labels and annotations by which Flux and Argo CD find their objects again. Nothing of theirs is read or changed.
"""

from __future__ import annotations

from collections.abc import Mapping

from lowtide_operator.planning.argocd import TRACKING
from lowtide_operator.planning.observed import Workload
from lowtide_operator.planning.switches import FLUX_KUSTOMIZATION, FLUX_RELEASE

NAMELESS = "unknown"
"""What the API server writes down for a client that gives no name."""


def started_by(workload: Workload) -> str:
    """Who set the workload's count, as far as the workload says, and what to do about it."""
    writer = workload.writer
    if writer in ("", NAMELESS):
        return "someone else"
    advice = _advice(workload)
    return f"the field manager {writer}" + (f" ({advice})" if advice else "")


def _advice(workload: Workload) -> str:
    labels, annotations, writer = workload.meta.labels, workload.meta.annotations, workload.writer
    if writer == "kustomize-controller":
        name = _named("Kustomization", labels, FLUX_KUSTOMIZATION)
        return f"Flux, {name}: leave spec.replicas out of what it applies"
    if writer == "helm-controller":
        name = _named("HelmRelease", labels, FLUX_RELEASE)
        return f"Flux, {name}: let its drift detection ignore /spec/replicas"
    if writer.startswith("argocd"):
        application = annotations.get(TRACKING, "").partition(":")[0]
        called = f"Application {application}" if application else "an Application"
        return f"Argo CD, {called}: let its ignoreDifferences cover /spec/replicas, with RespectIgnoreDifferences=true"
    if writer.startswith("keda"):
        return "KEDA: look who takes autoscaling.keda.sh/paused off its ScaledObject, which pauses it for the run"
    return ""


def _named(kind: str, labels: Mapping[str, str], group: str) -> str:
    """The Flux object that the workload's labels name: they come in pairs."""
    name, namespace = labels.get(f"{group}/name"), labels.get(f"{group}/namespace")
    return f"{kind} {namespace}/{name}" if name and namespace else f"a {kind}"
