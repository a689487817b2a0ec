"""The annotations by which other controllers let themselves be paused, each as its own documentation says.

A switch is put on in the patch that holds the object, and off in the one that releases it: to what it was before, and
only where it still is as we left it. Whoever has it on already is left alone.

    Flux, Kustomization   fluxcd/pkg ssa, ExclusionSelector: `disabled` on the workload in the cluster, in any case of
                          its letters, leaves it out of apply and prune
    Flux, HelmRelease     fluxcd.io, Helm releases, drift detection: the same, for drift detection alone
    KEDA                  keda.sh, pausing autoscaling: `paused: "true"` on the ScaledObject keeps the present count.
                          `paused-replicas` is stronger, and scales to its own count: one that is there goes meanwhile
    Argo CD               argo-cd.readthedocs.io, skip application reconcile: `"true"` on the Application
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from lowtide_operator.api.quiesce import Switch
from lowtide_operator.planning.observed import Keeper, Meta, Workload

FLUX_KUSTOMIZATION = "kustomize.toolkit.fluxcd.io"
FLUX_RELEASE = "helm.toolkit.fluxcd.io"
FLUX_RECONCILE = f"{FLUX_KUSTOMIZATION}/reconcile"
FLUX_DRIFT = f"{FLUX_RELEASE}/driftDetection"
KEDA_PAUSED = "autoscaling.keda.sh/paused"
KEDA_PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
ARGO_SKIP = "argocd.argoproj.io/skip-reconcile"

ON: Mapping[str, str | None] = MappingProxyType(
    {
        FLUX_RECONCILE: "disabled",
        FLUX_DRIFT: "disabled",
        KEDA_PAUSED: "true",
        KEDA_PAUSED_REPLICAS: None,
        ARGO_SKIP: "true",
    }
)
"""By the switch's annotation: its value while the run has it on, None where it is not there then."""

_PLAIN = re.compile(r"[A-Za-z0-9._/:-]*")


def workload_switches(meta: Meta) -> tuple[Switch, ...]:
    """What is to be put on at a workload with this metadata, with what it is now; only what is not on already.

    By the labels that Flux gives to all that it applies, whether or not it declares the count: who set the count last
    says nothing, because that may have been an earlier run.
    """
    found = []
    for group, annotation in ((FLUX_KUSTOMIZATION, FLUX_RECONCILE), (FLUX_RELEASE, FLUX_DRIFT)):
        value = meta.annotations.get(annotation)
        named = f"{group}/name" in meta.labels and f"{group}/namespace" in meta.labels
        if named and (value or "").lower() != ON[annotation]:
            found.append(Switch(annotation=annotation, value=value))
    return tuple(found)


def switches_of(found: Workload | Keeper) -> tuple[Switch, ...]:
    """What is to be put on at this object, as for workload_switches: Flux may have a ScaledObject as well."""
    if isinstance(found, Workload):
        return workload_switches(found.meta)
    notes = found.meta.annotations
    if found.kind == "Application":
        argo = Switch(annotation=ARGO_SKIP, value=notes.get(ARGO_SKIP))
        return () if argo.value == ON[ARGO_SKIP] else (*workload_switches(found.meta), argo)
    on = () if notes.get(KEDA_PAUSED) == ON[KEDA_PAUSED] else (KEDA_PAUSED,)
    count = (KEDA_PAUSED_REPLICAS,) if KEDA_PAUSED_REPLICAS in notes else ()
    keda = tuple(Switch(annotation=name, value=notes.get(name)) for name in (*on, *count))
    return (*workload_switches(found.meta), *keda) if keda else ()


def unreadable(switches: tuple[Switch, ...]) -> str:
    """The annotation whose value could not be put back for sure, "" where there is none: none documents such a value,
    and what a release pod may put back is compared as text."""
    return next((s.annotation for s in switches if s.value is not None and not _PLAIN.fullmatch(s.value)), "")


def switched_on(switches: tuple[Switch, ...]) -> dict[str, str | None]:
    """The annotations that put them on."""
    return {switch.annotation: ON[switch.annotation] for switch in switches}


def switched_back(meta: Meta, switches: tuple[Switch, ...]) -> dict[str, str | None]:
    """The annotations that put them back, those excepted that somebody changed meanwhile."""
    return {switch.annotation: switch.value for switch in switches if is_ours(meta, switch)}


def overruled(meta: Meta, switches: tuple[Switch, ...]) -> tuple[str, ...]:
    """The annotations that somebody changed meanwhile, and that stay as they are."""
    return tuple(switch.annotation for switch in switches if not is_ours(meta, switch))


def is_ours(meta: Meta, switch: Switch) -> bool:
    """Whether the switch still is as we left it. One that a later version knows, and this one doesn't, never is."""
    return switch.annotation in ON and meta.annotations.get(switch.annotation) == ON[switch.annotation]
