"""A real node: containerd with runc, the kubelet, pod networking by CNI, Services by kube-proxy.

Everything that these write is below the cluster's folder: images, mounts, network namespaces, sockets, logs. What
can't be there has a name that only this cluster uses: the cgroup, and the nftables tables of kube-proxy.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests import programs
from tests.cluster import host, processes
from tests.cluster.controlplane import POD_RANGE, ControlPlane, free_ports
from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import Process
from tests.cluster.waiting import wait_for

NODE = "lowtide-node"
POD_SUBNET = "10.244.0.0/24"
CGROUP = "lowtide-test-cluster"
SHIMS = Path("/run/lowtide-shims")
"""Sockets of containerd's shims: containerd refuses a path of more than 42 characters."""
CGROUPS = Path("/sys/fs/cgroup")
PROXY_TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CNI = ("ptp", "loopback", "host-local")


def socket_path(folder: Path) -> Path:
    """Where containerd listens."""
    return folder / "containerd" / "containerd.sock"


def kubelet_root(folder: Path) -> Path:
    """The kubelet's root folder."""
    return folder / "kubelet"


def start_containerd(folder: Path, mark: Path, pause: str) -> Process:
    """Start containerd with `pause` as the image of sandboxes, and wait until it answers."""
    own = folder / "containerd"
    own.mkdir(parents=True, exist_ok=True)
    _write_network(folder)
    runc = host.find("runc")
    settings = f"""\
version = 3
root = '{own / "root"}'
state = '{own / "state"}'
imports = []

[plugins.'io.containerd.server.v1.grpc']
address = '{socket_path(folder)}'
[plugins.'io.containerd.server.v1.ttrpc']
address = '{socket_path(folder)}.ttrpc'
[plugins.'io.containerd.shim.v1.manager']
socket_dir = '{SHIMS}'
[plugins.'io.containerd.internal.v1.opt']
path = '{own / "opt"}'
[plugins.'io.containerd.nri.v1.nri']
disable = true
[plugins.'io.containerd.metadata.v1.bolt']
no_sync = true

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{pause}'
[plugins.'io.containerd.cri.v1.runtime']
# Where the machine lacks CAP_SYS_RESOURCE, runc can't lower a score, and every sandbox would fail.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{own / "cni" / "bin"}']
conf_dir = '{own / "cni" / "conf"}'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{runc}'
Root = '{own / "runc"}'
SystemdCgroup = false
"""
    (own / "config.toml").write_text(settings)
    program = programs.program("containerd")
    programs.program("containerd-shim-runc-v2")
    process = processes.start(
        "containerd",
        [program, "--config", own / "config.toml"],
        log=folder / "logs" / "containerd.log",
        mark=mark,
        environment={"PATH": f"{program.parent}:{_PATH}"},
    )

    def answers() -> bool:
        _assert_alive(process)
        with contextlib.suppress(host.HostError):
            host.run(programs.program("ctr"), "-a", socket_path(folder), "version")
            return True
        return False

    wait_for("containerd answers", answers, within=60, every=0.1)
    return process


def start_kubelet(plane: ControlPlane, mark: Path) -> Process:
    """Start the kubelet; it registers the node NODE by itself."""
    folder = plane.folder
    root = kubelet_root(folder)
    port, health = free_ports(2)
    _make_cgroup()
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": plane.address,
        "port": port,
        "healthzPort": health,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plane.certificates.authority)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{socket_path(folder)}",
        "podLogsDir": str(folder / "pod-logs"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "makeIPTablesUtilChains": False,
        "evictionHard": {
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }
    (folder / "kubelet.json").write_text(json.dumps(settings, indent=1))
    return processes.start(
        "kubelet",
        [
            programs.program("kubelet"),
            f"--config={folder / 'kubelet.json'}",
            f"--kubeconfig={plane.kubeconfig_of('kubelet')}",
            *(f"--hostname-override={NODE}", f"--node-ip={plane.address}", f"--root-dir={root}"),
            f"--cert-dir={root / 'pki'}",
        ],
        log=folder / "logs" / "kubelet.log",
        mark=mark,
        environment={"PATH": _PATH},
    )


def start_proxy(plane: ControlPlane, mark: Path) -> Process:
    """Start kube-proxy, which makes the addresses of Services work, for pods and for the host."""
    health, metrics = free_ports(2)
    return processes.start(
        "kube-proxy",
        [
            programs.program("kube-proxy"),
            *("--proxy-mode=nftables", f"--cluster-cidr={POD_RANGE}", f"--hostname-override={NODE}"),
            f"--kubeconfig={plane.kubeconfig_of('proxy')}",
            f"--healthz-bind-address=127.0.0.1:{health}",
            f"--metrics-bind-address=127.0.0.1:{metrics}",
            *("--conntrack-max-per-core=0", "--conntrack-min=0"),
            *("--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s"),
        ],
        log=plane.folder / "logs" / "kube-proxy.log",
        mark=mark,
        environment={"PATH": _PATH},
    )


def is_ready(kubectl: Kubectl) -> bool:
    """Whether the API server sees the node as Ready."""
    path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return kubectl.run("get", "node", NODE, "--request-timeout=5s", "-o", path).stdout == "True"


def wait_ready(plane: ControlPlane, parts: Mapping[str, Process], within: float = 120) -> None:
    """Wait until the API server sees the node as Ready; raises ChildProcessError where a part of it ends instead."""

    def ready() -> bool:
        for process in parts.values():
            _assert_alive(process)
        return is_ready(plane.kubectl)

    wait_for("the node is Ready", ready, within=within, every=0.2, seen=lambda: parts["kubelet"].tail(5))


def import_image(folder: Path, archive: Path) -> None:
    """Import the images of a docker-archive file, for pods to run."""
    host.run(programs.program("ctr"), "-a", socket_path(folder), "-n", "k8s.io", "images", "import", archive)


def image_names(folder: Path) -> set[str]:
    """The names of the images that pods can run."""
    shown = host.run(programs.program("ctr"), "-a", socket_path(folder), "-n", "k8s.io", "images", "ls", "-q")
    return set(shown.split())


def cgroup_folders() -> list[Path]:
    """The cluster's cgroup in every hierarchy that this machine has (one with version 2, several with version 1)."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS / CGROUP]
    return [entry / CGROUP for entry in sorted(CGROUPS.iterdir()) if (entry / "cgroup.procs").exists()]


def _make_cgroup() -> None:
    for folder in cgroup_folders():
        parent = folder.parent
        folder.mkdir(exist_ok=True)
        # A new cpuset of version 1 is empty, and no process may enter an empty one.
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (folder / name).exists() and not (folder / name).read_text().strip():
                with contextlib.suppress(OSError):
                    (folder / name).write_text((parent / name).read_text())
        if (parent / "cgroup.controllers").exists() and parent == CGROUPS:
            wanted = " ".join(f"+{name}" for name in (parent / "cgroup.controllers").read_text().split())
            for each in (parent, folder):
                with contextlib.suppress(OSError):
                    (each / "cgroup.subtree_control").write_text(wanted)


def _write_network(folder: Path) -> None:
    own = folder / "containerd" / "cni"
    for name in ("bin", "conf"):
        (own / name).mkdir(parents=True, exist_ok=True)
    for name in _CNI:
        shutil.copy2(programs.program(name), own / "bin" / name)
    network = {
        "cniVersion": "1.0.0",
        "name": "lowtide",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(own / "addresses"),
                    "ranges": [[{"subnet": POD_SUBNET}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }
    (own / "conf" / "10-lowtide.conflist").write_text(json.dumps(network))
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _assert_alive(process: Process) -> None:
    if not process.alive():
        raise ChildProcessError(f"{process.name} ended; the end of its log {process.log}:\n{process.tail()}")
