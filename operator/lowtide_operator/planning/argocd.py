"""Which Application of Argo CD a workload belongs to, and what is said where Lowtide may not pause it.

Argo CD puts a count back only where its Application syncs by itself, heals itself, and does not ignore that field
(argo-cd.readthedocs.io: automated sync policy, diffing). To know that one must read the Application, which may be in
another namespace: a right that the chart does not give by default.
"""

from __future__ import annotations

from collections.abc import Iterable

from lowtide_operator.planning.allowed import ArgoMode
from lowtide_operator.planning.observed import Workload, World
from lowtide_operator.planning.users import Refusal

TRACKING = "argocd.argoproj.io/tracking-id"


def application_of(workload: Workload, namespaces: tuple[str, ...]) -> tuple[str, str] | None:
    """Namespace and name of the workload's Application, by its tracking id.

    That is `[<namespace>_]<application>:<group>/<kind>:<namespace>/<name>`. The first of `namespaces` is Argo CD's own,
    which ids leave out. None without an id, and for one that was copied from another object: Argo CD does not count
    that either.
    """
    called, _, rest = workload.meta.annotations.get(TRACKING, "").partition(":")
    group = workload.api_version.rpartition("/")[0]
    if not called or rest != f"{group}/{workload.kind}:{workload.meta.namespace}/{workload.meta.name}":
        return None
    namespace, _, name = called.rpartition("_")
    return namespace or namespaces[0], name


def argocd_refusals(workloads: Iterable[Workload], world: World) -> tuple[Refusal, ...]:
    """Why workloads that Argo CD has can't be stopped by an operator that may not pause their Applications."""
    found = []
    for workload in workloads:
        application = application_of(workload, world.argocd_namespaces)
        if application is None or world.argocd is ArgoMode.IGNORE:
            continue
        called = f"{workload.kind} {workload.meta.name}"
        namespace, name = application
        if world.argocd is ArgoMode.REFUSE and workload.applied_count:
            text = (
                f"{called} is applied with its count by Argo CD (Application {name}), which may put it back in the "
                f"middle of the run: let Lowtide pause the Application (argocd.mode=Pause in the chart), or, where "
                f"self-heal is off or ignoreDifferences covers the count, say so (argocd.mode=Ignore)."
            )
        elif world.argocd is ArgoMode.PAUSE and namespace not in world.argocd_namespaces:
            text = (
                f"{called} belongs to Argo CD's Application {namespace}/{name}, and Lowtide may not pause Applications "
                f"in that namespace: add it to argocd.namespaces in the chart."
            )
        else:
            continue
        found.append(Refusal("ArgoCDNotAllowed", text))
    return tuple(found)
