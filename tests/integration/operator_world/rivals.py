"""Controllers that put a count back again and again, as Flux and KEDA do, unless their own switch is on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.kinds import Kind
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.api import Api, ApiError, Object

AUTOSCALER = Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")

EVERY = 0.25
"""Seconds between two looks of a rival; the real ones take longer."""


class Rival:
    """Applies `replicas` of one workload under the name `manager`, for the time of a `with` block, whenever it is not
    what it is and `is_paused(the workload)` does not hold."""

    def __init__(
        self,
        api: Api,
        kind: Kind,
        namespace: str,
        name: str,
        replicas: int,
        *,
        manager: str,
        is_paused: Callable[[Object], bool],
    ) -> None:
        self._api = api
        self._path = kind.path(namespace, name)
        self._declared = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"replicas": replicas},
        }
        self._replicas = replicas
        self._manager = manager
        self._is_paused = is_paused
        self.applied = 0
        self._looks = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=manager, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(30)

    def look(self) -> None:
        """Wait until it has looked at the workload, and done what it does then."""
        seen = self._looks
        wait_for(f"{self._manager} looks", lambda: self._looks >= seen + 2, within=30)

    def apply(self) -> None:
        """What it does at each look."""
        body = self._api.call("GET", self._path)
        if self._is_paused(body) or body["spec"]["replicas"] == self._replicas:
            return
        # Between the two readings the run may have ended: then it put the count back before it lifted the pause.
        if self._api.call("GET", self._path)["spec"]["replicas"] == self._replicas:
            return
        path = f"{self._path}?fieldManager={self._manager}&force=true"
        self._api.call("PATCH", path, self._declared, "application/apply-patch+yaml")
        self.applied += 1

    def _run(self) -> None:
        while not self._stopping.wait(EVERY):
            try:
                self.apply()
                self._looks += 1
            except (OSError, ApiError):
                continue


def scaled_object(namespace: str, name: str, target: str, annotations: dict[str, str] | None = None) -> Object:
    """A ScaledObject for a Deployment."""
    triggers = [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}}]
    return {
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
        "spec": {"scaleTargetRef": {"name": target}, "triggers": triggers},
    }


class PlayedKeda(Rival):
    """KEDA, for one ScaledObject `<name>-scaler` and its Deployment `name`: says in the status whether it is paused, as
    the real one does, and scales while it is not. While it is `stubborn` it says so too, and scales all the same."""

    def __init__(self, api: Api, namespace: str, name: str, replicas: int) -> None:
        self._scaled = f"{name}-scaler"
        self._space = namespace
        self.stubborn = False
        super().__init__(
            api, kinds.DEPLOYMENT, namespace, name, replicas, manager="keda", is_paused=lambda workload: self._look()
        )

    def _look(self) -> bool:
        body = self._api.get(kinds.SCALED_OBJECT, self._space, self._scaled)
        if body is None:
            return True
        notes = body["metadata"].get("annotations") or {}
        paused = notes.get("autoscaling.keda.sh/paused") == "true" or "autoscaling.keda.sh/paused-replicas" in notes
        said = [{"type": "Paused", "status": str(paused), "reason": "Played", "message": "played"}]
        if (body.get("status") or {}).get("conditions") != said:
            status = {"status": {"conditions": said}}
            self._api.patch(kinds.SCALED_OBJECT, self._space, self._scaled, status, "status")
        return paused and not self.stubborn


ARGOCD = "argocd"
"""The namespace of Applications."""


def tracking_id(application: str, namespace: str, name: str) -> dict[str, str]:
    """What Argo CD notes at a Deployment of that Application."""
    return {"argocd.argoproj.io/tracking-id": f"{application}:apps/Deployment:{namespace}/{name}"}


def application(name: str, annotations: dict[str, str] | None = None) -> Object:
    """An Application of Argo CD that heals itself."""
    source = {"repoURL": "https://example.org/shop.git", "path": "."}
    return {
        "metadata": {"name": name, "namespace": ARGOCD, "annotations": annotations or {}},
        "spec": {
            "project": "default",
            "source": source,
            "destination": {"server": "https://kubernetes.default.svc"},
            "syncPolicy": {"automated": {"selfHeal": True}},
        },
    }


def played_argocd(api: Api, namespace: str, name: str, application: str, replicas: int) -> Rival:
    """Argo CD, for one Application and its Deployment `name`."""

    def skips(workload: Object) -> bool:
        body = api.get(kinds.APPLICATION, ARGOCD, application)
        notes = (body or {"metadata": {}})["metadata"].get("annotations") or {}
        return bool(notes.get("argocd.argoproj.io/skip-reconcile") == "true")

    return Rival(api, kinds.DEPLOYMENT, namespace, name, replicas, manager="argocd-controller", is_paused=skips)
