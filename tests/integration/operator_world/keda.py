"""KEDA's real operator, and ScaledObjects whose one trigger is a number in a ConfigMap.

KEDA takes a Deployment from 0 to the least that its ScaledObject wants at the first poll that finds work, and back to 0
where that is the least and there is none. What lies between is up to the HorizontalPodAutoscaler that it makes, which
knows no metrics here.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.kinds import Kind
from tests import programs
from tests.cluster.controlplane import ControlPlane, free_ports
from tests.cluster.definitions import define_keda
from tests.cluster.processes import Process
from tests.cluster.waiting import wait_for
from tests.integration.operator_world import controllers
from tests.integration.operator_world.api import Api, Object
from tests.integration.operator_world.rivals import AUTOSCALER
from tests.integration.operator_world.world import workload

CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")

POLLED = 1
"""Seconds between two polls of a trigger: the least that KEDA allows."""

PATIENCE = 180.0
"""Seconds within which KEDA does what it has to here. It takes about one, but after an error it waits ever longer."""

BEACON = "beacon"


class Keda:
    """The operator as a process, and a Deployment of nobody's, `beacon`, by which it shows that it polls."""

    def __init__(self, process: Process, api: Api) -> None:
        self._process = process
        self._api = api

    def look(self) -> None:
        """Wait until it has polled whatever is not paused: between two polls of one lies one of each other."""
        for _ in range(2):
            self._api.patch(kinds.DEPLOYMENT, "default", BEACON, {"spec": {"replicas": 0}}, "scale")
            wait_for("KEDA scales the beacon", self._scaled, within=PATIENCE, seen=self.tail)

    def freeze(self) -> None:
        """Let it see nothing and do nothing."""
        self._process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send(signal.SIGCONT)

    def tail(self) -> str:
        return self._process.tail()

    def _scaled(self) -> bool:
        body = self._api.get(kinds.DEPLOYMENT, "default", BEACON) or {}
        return bool(body["spec"]["replicas"])


@contextlib.contextmanager
def running_keda(plane: ControlPlane, folder: Path) -> Iterator[Keda]:
    """The operator for the time of a `with` block, with all rights, over all namespaces. Raises BuildError."""
    program = programs.program("keda")
    define_keda(plane.kubectl)
    (metrics, health, service) = free_ports(3)
    certificates = folder / "certificates"
    certificates.mkdir()
    made = plane.certificates
    for name, path in (("ca.crt", made.authority), ("tls.crt", made.server), ("tls.key", made.server_key)):
        (certificates / name).symlink_to(path)
    command = [
        *(program, f"--metrics-bind-address=127.0.0.1:{metrics}", f"--health-probe-bind-address=127.0.0.1:{health}"),
        *(f"--metrics-service-bind-address=127.0.0.1:{service}", f"--cert-dir={certificates}"),
        *("--kube-api-qps=500", "--kube-api-burst=1000"),
    ]
    environment = {
        "KUBECONFIG": str(plane.kubeconfig),
        "WATCH_NAMESPACE": "",
        "KEDA_CLUSTER_OBJECT_NAMESPACE": "default",
        "POD_NAMESPACE": "default",
    }
    with (
        contextlib.closing(Api(plane)) as api,
        controllers.running("keda", command, folder=folder, health=health, environment=environment) as process,
    ):
        keda = Keda(process, api)
        api.create(kinds.DEPLOYMENT, workload("default", kinds.DEPLOYMENT, BEACON, "unused", 1))
        try:
            with Scaled(api, keda, "default", BEACON, least=1):
                yield keda
        finally:
            api.delete(kinds.DEPLOYMENT, "default", BEACON)


class Scaled:
    """A ScaledObject `<name>-scaler` of the Deployment `name`, for the time of a `with` block: its count is `least` or
    more while there is work, and `least` while there is none."""

    def __init__(
        self,
        api: Api,
        keda: Keda,
        namespace: str,
        name: str,
        *,
        least: int = 2,
        work: int = 1,
        annotations: dict[str, str] | None = None,
    ) -> None:
        self._api = api
        self._keda = keda
        self._namespace = namespace
        self._target = name
        self._least = least
        self._work = work
        self._annotations = annotations or {}
        self.name = f"{name}-scaler"

    def __enter__(self) -> Self:
        metadata = {"name": self.name, "namespace": self._namespace}
        self._api.create(CONFIG_MAP, {"metadata": metadata, "data": {"work": str(self._work)}})
        number = {"resourceKind": "ConfigMap", "resourceName": self.name, "key": "work", "targetValue": "1"}
        spec = {
            "scaleTargetRef": {"name": self._target},
            "pollingInterval": POLLED,
            "cooldownPeriod": 1,
            "minReplicaCount": self._least,
            "maxReplicaCount": 9,
            "triggers": [{"type": "kubernetes-resource", "metadata": number}],
        }
        self._api.create(
            kinds.SCALED_OBJECT, {"metadata": {**metadata, "annotations": self._annotations}, "spec": spec}
        )
        self._await("KEDA has taken it", lambda: self.says("Ready"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (kinds.SCALED_OBJECT, CONFIG_MAP):
            self._api.delete(each, self._namespace, self.name)
        self._await("it is gone", lambda: self._api.get(kinds.SCALED_OBJECT, self._namespace, self.name) is None)

    def get(self) -> Object:
        """The ScaledObject."""
        return self._api.get(kinds.SCALED_OBJECT, self._namespace, self.name) or {}

    def says(self, condition: str) -> bool:
        """Whether KEDA says `condition` of it."""
        found = (self.get().get("status") or {}).get("conditions") or ()
        return any(entry["type"] == condition and entry["status"] == "True" for entry in found)

    def annotations(self) -> dict[str, str]:
        found: dict[str, str] = self.get()["metadata"].get("annotations") or {}
        return found

    def annotate(self, annotations: Mapping[str, str | None]) -> None:
        """Set annotations as a person would, or take them away."""
        patch = {"metadata": {"annotations": dict(annotations)}}
        self._api.patch(kinds.SCALED_OBJECT, self._namespace, self.name, patch)

    def work(self, amount: int) -> None:
        """Let there be so much work."""
        self._api.patch(CONFIG_MAP, self._namespace, self.name, {"data": {"work": str(amount)}})

    def autoscaler(self) -> Object | None:
        """The labels and the spec of the HorizontalPodAutoscaler that KEDA has made of it; None while it is paused."""
        body = self._api.get(AUTOSCALER, self._namespace, f"keda-hpa-{self.name}")
        return None if body is None else {"labels": body["metadata"]["labels"], "spec": body["spec"]}

    def await_count(self, count: int) -> None:
        """Wait until the Deployment wants `count`."""

        def wanted() -> bool:
            body = self._api.get(kinds.DEPLOYMENT, self._namespace, self._target) or {}
            return bool(body["spec"]["replicas"] == count)

        self._await(f"{self._target} wants {count}", wanted)

    def _await(self, what: str, check: Callable[[], bool]) -> None:
        wait_for(
            what, check, within=PATIENCE, every=0.01, seen=lambda: f"{self.get().get('status')}\n{self._keda.tail()}"
        )
