"""The real cluster on this machine: one node, volumes with snapshots; started, ended and looked at.

All its state is in one folder (LOWTIDE_CLUSTER_DIR, default /var/lib/lowtide-test-cluster), so that the next run
finds it, whoever started it, and can remove what a crash left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import programs
from tests.cluster import cleanup, host, images, kubeconfig, node, storage
from tests.cluster.controlplane import USERS, ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import Process
from tests.programs import say

PROGRAMS = (
    *("etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
    *("containerd", "containerd-shim-runc-v2", "ctr", "ptp", "loopback", "host-local"),
    *("snapshot-controller", "csi-snapshotter", "csi-provisioner", "pause"),
)
_HOST_PROGRAMS = ("runc", "nft", "ip", "mkfs.btrfs", "losetup", "conntrack", "openssl")


@dataclass(frozen=True, slots=True)
class Machine:
    """A running cluster, as it was recorded when it came up."""

    folder: Path
    address: str
    """The node's address: what pods use to reach servers on this machine."""
    processes: tuple[Process, ...]

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig with all rights."""
        return self.folder / "admin.kubeconfig"

    @property
    def kubectl(self) -> Kubectl:
        """kubectl with all rights."""
        return Kubectl(self.kubeconfig)

    def faults(self) -> list[str]:
        """What is wrong with it, one sentence each; empty where it is well."""
        found = [f"{each.name} ended (its log: {each.log})" for each in self.processes if not each.alive()]
        found = found or self.kubectl.faults()
        if found:
            return found
        if not node.is_ready(self.kubectl):
            found.append("the node is not Ready")
        if not storage.is_registered(self.kubectl):
            found.append("the CSI driver is not registered")
        return found


def load() -> Machine | None:
    """The cluster that was recorded last, running or not; None where there is none."""
    try:
        record: dict[str, Any] = json.loads((host.state_folder() / "state.json").read_text())
    except FileNotFoundError:
        return None
    return Machine(host.state_folder(), record["address"], tuple(Process(**each) for each in record["processes"]))


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Hold the lock that only one `up` or `down` on this machine has at a time."""
    with programs.locked(Path("/run/lock/lowtide-test-cluster.lock")):
        yield


def up() -> Machine:
    """A healthy cluster: the one that runs, or a new one, after removing what an earlier one left."""
    host.prepare(*_HOST_PROGRAMS)
    for name in PROGRAMS:
        programs.program(name)
    with exclusive():
        running = load()
        if running is not None:
            faults = running.faults()
            if not faults:
                say(f"the cluster runs: {running.kubeconfig}")
                return running
            say(f"the cluster does not run well: {'; '.join(faults)}")
        host.check_kernel()
        with step("removing what an earlier cluster left"):
            cleanup.remove(host.state_folder())
        try:
            return _start(host.state_folder())
        except BaseException:
            keep = host.state_folder().with_name(f"{host.state_folder().name}-failed-logs")
            with contextlib.suppress(OSError):
                _save_logs(host.state_folder() / "logs", keep)
                say(f"the cluster did not come up; its logs are in {keep}")
            cleanup.remove(host.state_folder())
            raise


def down() -> None:
    """Remove the cluster: no process, mount, loop device, interface, cgroup or rule of it stays."""
    with exclusive(), step("removing the cluster"):
        cleanup.remove(host.state_folder())
        if left := cleanup.leftovers(host.state_folder()):
            raise host.HostError(f"still there: {', '.join(left)}")


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is done, and how long it took."""
    began = time.monotonic()
    say(f"{what} …")
    yield
    say(f"{what}: {time.monotonic() - began:.1f} s")


def _start(folder: Path) -> Machine:
    folder.mkdir(parents=True, mode=0o755)
    address = host.address()
    users = {**USERS, "kubelet": kubeconfig.node_user(node.NODE)}
    with step("starting etcd, the API server, the controllers, the scheduler"):
        plane = ControlPlane(folder, address, mark=folder, users=users)
        plane.start(controllers=True, scheduler=True)
        kubeconfig_path = plane.kubeconfig
    parts = plane.processes
    with step("starting containerd"):
        pause = images.pause()
        parts["containerd"] = node.start_containerd(folder, folder, pause.name)
        node.import_image(folder, pause.archive)
    with step("making volumes"):
        storage.mount_volumes(folder)
        storage.apply_definitions(plane)
    with step("starting the kubelet, kube-proxy, the CSI driver"):
        parts["kubelet"] = node.start_kubelet(plane, folder)
        parts["kube-proxy"] = node.start_proxy(plane, folder)
        parts["csi-keeper"] = storage.start_driver(plane, folder)
        node.wait_ready(plane, parts)
        storage.wait_registered(plane, parts["csi-keeper"])
    machine = Machine(folder, address, tuple(parts.values()))
    record = {"address": address, "processes": [dataclasses.asdict(each) for each in machine.processes]}
    kubeconfig.write_private(folder / "state.json", json.dumps(record, indent=1))
    say(f"the cluster is up: {kubeconfig_path}")
    return machine


def _save_logs(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
