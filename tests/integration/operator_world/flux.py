"""Flux's real kustomize-controller. What its source-controller would do is done here: the archives that it fetches are
on loopback, and the GitRepositories name them in their status."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from lowtide_operator.cluster.kinds import Kind
from tests import programs
from tests.cluster.controlplane import ControlPlane, free_ports
from tests.cluster.definitions import define_kustomizations
from tests.cluster.processes import Process
from tests.cluster.waiting import wait_for
from tests.integration.operator_world import controllers
from tests.integration.operator_world.api import Api, Object

KUSTOMIZATION = Kind("kustomize.toolkit.fluxcd.io", "v1", "kustomizations", "Kustomization")
GIT_REPOSITORY = Kind("source.toolkit.fluxcd.io", "v1", "gitrepositories", "GitRepository")

REQUESTED = "reconcile.fluxcd.io/requestedAt"
"""The annotation that asks for a reconciliation; the status says which one was asked for last, once it is over."""

PATIENCE = 60.0
"""Seconds within which a reconciliation ends here; it takes less than one."""


class KustomizeController:
    """The controller as a process, and the folder from which it fetches."""

    def __init__(self, process: Process, archives: Path, url: str) -> None:
        self._process = process
        self._archives = archives
        self._url = url

    def publish(self, bodies: list[Object]) -> Object:
        """An archive of these objects, as an artifact in the status of a source."""
        manifests = json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies}).encode()
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            entry = tarfile.TarInfo("manifests.yaml")
            entry.size = len(manifests)
            tar.addfile(entry, io.BytesIO(manifests))
        data = archive.getvalue()
        name = f"{uuid.uuid4().hex}.tar.gz"
        (self._archives / name).write_bytes(data)
        return {
            "url": f"{self._url}/{name}",
            "path": name,
            "revision": f"main@sha1:{hashlib.sha1(manifests).hexdigest()}",
            "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
            "size": len(data),
            "lastUpdateTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def said(self, namespace: str, name: str, workload: str) -> list[str]:
        """What it did with the workload (`kind/namespace/name`) in each reconciliation of a Kustomization: created,
        configured, unchanged or skipped."""
        found = []
        for line in Path(self._process.log).read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                entry: Object = json.loads(line)
                if entry.get("msg") == "server-side apply completed" and entry.get("Kustomization") == {
                    "name": name,
                    "namespace": namespace,
                }:
                    found.append(entry["output"].get(workload, ""))
        return [word for word in found if word]

    def tail(self) -> str:
        return self._process.tail()


@contextlib.contextmanager
def kustomize_controller(plane: ControlPlane, folder: Path) -> Iterator[KustomizeController]:
    """The controller for the time of a `with` block, with all rights, over all namespaces. Raises BuildError."""
    program = programs.program("kustomize-controller")
    define_kustomizations(plane.kubectl)
    (metrics, health) = free_ports(2)
    archives = folder / "archives"
    archives.mkdir()
    command = [
        *(program, "--watch-all-namespaces=true", "--enable-leader-election=false", "--log-encoding=json"),
        *(f"--metrics-addr=127.0.0.1:{metrics}", f"--health-addr=127.0.0.1:{health}"),
    ]
    environment = {"KUBECONFIG": str(plane.kubeconfig), "TMPDIR": str(folder)}
    with (
        _served(archives) as url,
        controllers.running(
            "kustomize-controller", command, folder=folder, health=health, environment=environment
        ) as process,
    ):
        yield KustomizeController(process, archives, url)


class Kustomized:
    """A Kustomization that has one workload, for the time of a `with` block; both have the workload's name.

    It reconciles when it is told to (`look`), not by the clock: one that reads the workload before it is held and
    applies it after that would start it, as Lowtide would then say, and no test could tell when.
    """

    def __init__(self, api: Api, controller: KustomizeController, body: Object) -> None:
        self._api = api
        self._controller = controller
        self._body = body
        self._namespace: str = body["metadata"]["namespace"]
        self._name: str = body["metadata"]["name"]
        self._where = (self._namespace, self._name)

    def __enter__(self) -> Self:
        metadata = {"name": self._name, "namespace": self._namespace}
        source = {"interval": "1h", "url": "https://example.org/shop.git"}
        self._api.create(GIT_REPOSITORY, {"metadata": metadata, "spec": source})
        spec = {
            "interval": "1h",
            "retryInterval": "1s",
            "prune": True,
            "deletionPolicy": "Orphan",
            "sourceRef": {"kind": GIT_REPOSITORY.kind, "name": self._name},
        }
        self._api.create(KUSTOMIZATION, {"metadata": metadata, "spec": spec})
        self.push(self._body)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (KUSTOMIZATION, GIT_REPOSITORY):
            self._api.delete(each, *self._where)
        wait_for("it is gone", lambda: self._api.get(KUSTOMIZATION, *self._where) is None, within=PATIENCE)

    @property
    def applied(self) -> int:
        """How often it has changed the workload."""
        return len([word for word in self.said() if word in ("created", "configured")])

    def said(self) -> list[str]:
        """What it did with the workload in each reconciliation."""
        workload = f"{self._body['kind']}/{self._namespace}/{self._name}"
        return self._controller.said(*self._where, workload)

    def get(self) -> Object:
        """The Kustomization."""
        return self._api.get(KUSTOMIZATION, *self._where) or {}

    def patch(self, patch: Object) -> None:
        """Change the Kustomization as a person would."""
        self._api.patch(KUSTOMIZATION, *self._where, patch)

    def push(self, *bodies: Object) -> None:
        """Let Git have these objects from now on, and wait until it has been applied."""
        artifact = self._controller.publish(list(bodies))
        self._api.patch(GIT_REPOSITORY, *self._where, {"status": {"artifact": artifact}}, "status")
        self._await("lastAppliedRevision", artifact["revision"])

    def look(self) -> None:
        """Let it reconcile, and wait until that is over."""
        asked = uuid.uuid4().hex
        self.patch({"metadata": {"annotations": {REQUESTED: asked}}})
        self._await("lastHandledReconcileAt", asked)

    def _await(self, field: str, value: str) -> None:
        wait_for(
            f"the status of Kustomization {self._name} has {field} {value}",
            lambda: (self.get().get("status") or {}).get(field) == value,
            within=PATIENCE,
            seen=lambda: f"{self.get().get('status')}\n{self._controller.tail()}",
        )


class _Files(http.server.SimpleHTTPRequestHandler):
    """Files, without a line for each on stderr."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The files of a folder over HTTP on loopback; gives the address."""
    handler = functools.partial(_Files, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="archives", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)
