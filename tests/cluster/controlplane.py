"""A Kubernetes API server with etcd, and by choice its controllers and scheduler: no nodes.

`control_plane()` is for integration tests: everything in a temporary folder, on free ports, ended at the end. The
cluster with a node (`machine.py`) starts the same parts in a folder that stays.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests import programs
from tests.cluster import certificates, kubeconfig, processes
from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import Process
from tests.cluster.waiting import wait_for

SERVICE_RANGE = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
POD_RANGE = "10.244.0.0/16"

USERS = {
    "admin": kubeconfig.ADMIN,
    "controllers": kubeconfig.CONTROLLERS,
    "scheduler": kubeconfig.SCHEDULER,
    "proxy": kubeconfig.PROXY,
}


_kept: list[socket.socket] = []
"""What holds the ports that were given to this process."""


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, outside the range from which the kernel takes the ports of outgoing connections.
    No other process of the tests is given them while this one runs, whether its servers listen on them or not.

    A socket that does not listen keeps each. Servers bind beside it, since they set SO_REUSEADDR, as all of ours do;
    who looks for a free port does not.
    """
    found: list[int] = []
    candidates = random.SystemRandom().sample(range(20000, 29999), 2000)
    for port in candidates:
        keeper = socket.socket()
        try:
            keeper.bind(("", port))
        except OSError:
            keeper.close()
            continue
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _kept.append(keeper)
        found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports between 20000 and 29999")


@dataclass
class ControlPlane:
    """The parts, and what they were started with. `folder` holds everything that they write."""

    folder: Path
    address: str
    mark: Path | None = None
    bound: bool = False
    users: dict[str, kubeconfig.User] = field(default_factory=lambda: dict(USERS))
    processes: dict[str, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.etcd_port, self.etcd_peer_port, self.port = free_ports(3)
        self.certificates = certificates.make(self.folder / "pki", ["127.0.0.1", self.address, SERVICE_ADDRESS])
        self.tokens = kubeconfig.write_tokens(self.folder / "tokens.csv", self.users)

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://{self.address}:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig with all rights."""
        return self.kubeconfig_of("admin")

    @property
    def kubectl(self) -> Kubectl:
        """kubectl with all rights."""
        return Kubectl(self.kubeconfig)

    def kubeconfig_of(self, user: str) -> Path:
        """The kubeconfig of one of `users`, by its key; written at the first call."""
        path = self.folder / f"{user}.kubeconfig"
        if path.exists():
            return path
        return kubeconfig.write_kubeconfig(path, self.url, self.certificates.authority, self.tokens[user])

    def start(self, *, controllers: bool, scheduler: bool) -> None:
        """Start the parts and wait until the API server is ready, and with controllers until it makes service
        accounts."""
        self._start_etcd()
        self._start_api_server()
        self.wait_ready()
        if controllers:
            self._start_controllers()
        if scheduler:
            self._start_scheduler()
        if controllers:
            self.wait_default_account()

    def kill(self) -> None:
        """End the API server as a crash would (SIGKILL). What etcd acknowledged stays."""
        processes.end([self.processes["kube-apiserver"]], grace=0)

    def restart(self) -> None:
        """Start the API server again on the same port, after ending it where it still runs, and wait until it is
        ready."""
        processes.end([self.processes["kube-apiserver"]], grace=10)
        self._start_api_server()
        self.wait_ready()

    def stop(self) -> None:
        """Freeze the API server (SIGSTOP): connections stay open, and nothing is answered."""
        self.processes["kube-apiserver"].send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen API server go on."""
        self.processes["kube-apiserver"].send(signal.SIGCONT)

    def close(self) -> None:
        """End everything that was started, the API server's clients first."""
        order = ["kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"]
        for name in order:
            if process := self.processes.pop(name, None):
                processes.end([process], grace=0 if self.bound else 10)

    def wait_ready(self, within: float = 90) -> None:
        """Wait until the API server calls itself ready; raises ChildProcessError with its log where it ends instead."""
        context = ssl.create_default_context(cafile=str(self.certificates.authority))
        request = urllib.request.Request(
            f"{self.url}/readyz", headers={"Authorization": f"Bearer {self.tokens['admin']}"}
        )
        last = ""

        def ready() -> bool:
            nonlocal last
            self._assert_alive("etcd", "kube-apiserver")
            try:
                with urllib.request.urlopen(request, timeout=5, context=context) as answer:
                    return bool(answer.status == 200)
            except urllib.error.HTTPError as error:
                last = error.read().decode(errors="replace")
                error.close()
            except OSError as error:
                last = str(error)
            return False

        wait_for("the API server is ready", ready, within=within, seen=lambda: last)

    def wait_default_account(self, within: float = 60) -> None:
        """Wait until the controllers work: the namespace `default` has its service account."""

        def account() -> bool:
            self._assert_alive("kube-controller-manager")
            return self.kubectl.run("get", "serviceaccount", "default", "-n", "default").returncode == 0

        wait_for("the controllers make service accounts", account, within=within, every=0.2)

    def _assert_alive(self, *names: str) -> None:
        for name in names:
            if not (process := self.processes[name]).alive():
                raise ChildProcessError(f"{name} ended; the end of its log {process.log}:\n{process.tail()}")

    def _start(self, name: str, arguments: Sequence[str | Path]) -> None:
        self.processes[name] = processes.start(
            name,
            [programs.program(name), *arguments],
            log=self.folder / "logs" / f"{name}.log",
            mark=self.mark,
            bound=self.bound,
        )

    def _start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.etcd_peer_port}"
        self._start(
            "etcd",
            [
                f"--data-dir={self.folder / 'etcd'}",
                *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
                *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
                f"--initial-cluster=default={peer}",
                *("--unsafe-no-fsync", "--log-level=warn"),
            ],
        )

    def _start_api_server(self) -> None:
        made = self.certificates
        # Loopback is refused as an address for the Service `kubernetes`; without pods nothing goes there (RFC 5737).
        advertised = "198.51.100.1" if self.address == "127.0.0.1" else self.address
        self._start(
            "kube-apiserver",
            [
                f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
                *(f"--advertise-address={advertised}", f"--bind-address={self.address}"),
                f"--secure-port={self.port}",
                *(f"--tls-cert-file={made.server}", f"--tls-private-key-file={made.server_key}"),
                f"--token-auth-file={self.folder / 'tokens.csv'}",
                *("--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"),
                *("--allow-privileged=true", f"--service-cluster-ip-range={SERVICE_RANGE}"),
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={made.accounts_key}",
                f"--service-account-signing-key-file={made.accounts_key}",
                "--kubelet-preferred-address-types=InternalIP",
                f"--kubelet-client-certificate={made.kubelet_client}",
                f"--kubelet-client-key={made.kubelet_client_key}",
            ],
        )

    def _start_controllers(self) -> None:
        own = self.kubeconfig_of("controllers")
        self._start(
            "kube-controller-manager",
            [
                *(f"--kubeconfig={own}", f"--authentication-kubeconfig={own}", f"--authorization-kubeconfig={own}"),
                *("--leader-elect=false", "--secure-port=0", "--use-service-account-credentials=true"),
                *("--kube-api-qps=500", "--kube-api-burst=1000"),
                "--horizontal-pod-autoscaler-sync-period=1s",
                f"--service-account-private-key-file={self.certificates.accounts_key}",
                f"--root-ca-file={self.certificates.authority}",
                *("--allocate-node-cidrs=true", f"--cluster-cidr={POD_RANGE}"),
                f"--service-cluster-ip-range={SERVICE_RANGE}",
            ],
        )

    def _start_scheduler(self) -> None:
        own = self.kubeconfig_of("scheduler")
        self._start(
            "kube-scheduler",
            [
                *(f"--kubeconfig={own}", f"--authentication-kubeconfig={own}", f"--authorization-kubeconfig={own}"),
                *("--leader-elect=false", "--secure-port=0", "--kube-api-qps=500", "--kube-api-burst=1000"),
            ],
        )


@contextlib.contextmanager
def control_plane(*, controllers: bool = True, scheduler: bool = False) -> Iterator[ControlPlane]:
    """An API server (RBAC on, token authentication) on loopback, for the time of a `with` block. Ready after about 3 s.

    With `controllers`, the controller manager runs: Deployments and StatefulSets get pods, Jobs too, claims bind to
    volumes, namespaces finalise, service accounts exist. There is no node, so a pod stays Pending unless a test
    writes its status.
    """
    needed: Iterable[str] = ["etcd", "kube-apiserver", "kubectl"]
    needed = [
        *needed,
        *(["kube-controller-manager"] if controllers else []),
        *(["kube-scheduler"] if scheduler else []),
    ]
    for name in needed:
        programs.program(name)
    with tempfile.TemporaryDirectory(prefix="lowtide-control-plane-") as folder:
        plane = ControlPlane(Path(folder), "127.0.0.1", bound=True)
        try:
            plane.start(controllers=controllers, scheduler=scheduler)
            yield plane
        finally:
            plane.close()
