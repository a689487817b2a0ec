"""Removing a cluster, whole or in pieces: what `down` does, and what `up` does first after a crash.

It needs no record. Processes are found by the mark in their environment and by the cluster's cgroup; mounts, loop
devices and links by the cluster's folder; pods' interfaces by the pods' addresses. So it also works when everything
was SIGKILLed and nothing was noted.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.cluster import host, node, processes
from tests.cluster.waiting import TimedOut, wait_for
from tests.programs import say

_CONTAINER_LOGS = Path("/var/log/containers")


def remove(folder: Path) -> None:
    """Remove everything that belongs to the cluster in `folder`, and the folder. Raises where something stays."""
    end_processes(folder)
    # Before the file systems go that their files are on: a loop device that is in use is only freed by its last user.
    _detach(_loops(folder))
    unmount(folder)
    _detach_loops(folder)
    _remove_interfaces()
    _remove_cgroups()
    _remove_proxy_rules()
    _remove_links(folder)
    shutil.rmtree(node.SHIMS, ignore_errors=True)
    if folder.exists():
        assert not mounts_below(folder)
        shutil.rmtree(folder)


def end_processes(folder: Path) -> None:
    """End the cluster's processes: first what starts others again, then pods, then the rest, and etcd last."""

    def named(*beginnings: str) -> list[processes.Process]:
        return [each for each in processes.marked(folder) if each.name.startswith(beginnings)]

    processes.end(named("python", "keep"), grace=5)
    processes.end(named("kubelet"), grace=5)
    processes.end(_in_cgroup(), grace=0)
    processes.end([each for each in processes.marked(folder) if each.name != "etcd"], grace=5)
    processes.end(processes.marked(folder), grace=5)
    processes.end(_in_cgroup(), grace=0)


def everything(folder: Path) -> list[processes.Process]:
    """Every process of the cluster, those in its pods too."""
    return list({each.pid: each for each in [*processes.marked(folder), *_in_cgroup()]}.values())


def leftovers(folder: Path) -> list[str]:
    """What of the cluster is still on this machine, one line each; empty where nothing is."""
    found = [f"process {each.pid} ({each.name})" for each in everything(folder)]
    found += [f"mount {point}" for point in mounts_below(folder)]
    found += [f"loop device {device}" for device in _loops(folder)]
    found += [f"interface {name}" for name in _pod_interfaces()]
    found += [f"cgroup {path}" for path in node.cgroup_folders() if path.exists()]
    found += [f"nftables table {family} {name}" for family, name in node.PROXY_TABLES if _table_exists(family, name)]
    found += [f"link {path}" for path in _links(folder)]
    found += [f"folder {path}" for path in (folder, node.SHIMS) if path.exists()]
    return found


def mounts_below(folder: Path) -> list[str]:
    """The mount points at or below `folder`, the latest first."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[4])
        if point == str(folder) or point.startswith(f"{folder}/"):
            points.append(point)
    return points[::-1]


def unmount(folder: Path) -> None:
    """Unmount everything at or below `folder`; lazily only what is still busy after the processes are gone."""
    for _ in range(3):
        for point in mounts_below(folder):
            if subprocess.run(["umount", point], capture_output=True, check=False).returncode != 0:
                subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
        if not (left := mounts_below(folder)):
            return
    raise host.HostError(f"could not unmount {', '.join(left)}")


def _in_cgroup() -> list[processes.Process]:
    pids: set[int] = set()
    for root in node.cgroup_folders():
        for path in root.rglob("cgroup.procs") if root.exists() else ():
            with contextlib.suppress(OSError):
                pids.update(int(pid) for pid in path.read_text().split())
    return [found for pid in sorted(pids) if (found := processes.existing(pid))]


def _loops(folder: Path) -> list[str]:
    """The cluster's loop devices: those of files in its folder (a block volume's too, as long as the file system that
    it is on is mounted), and those that the kubelet has over such a device."""
    shown = json.loads(host.run("losetup", "--list", "--json") or '{"loopdevices": []}')
    files = {each["name"]: str(each["back-file"]) for each in shown["loopdevices"]}
    own = [name for name, file in files.items() if file.startswith(f"{folder}/")]
    return [name for name, file in files.items() if file in own] + own


def _detach(devices: list[str]) -> None:
    for device in devices:
        subprocess.run(["losetup", "--detach", device], capture_output=True, check=False)


def _detach_loops(folder: Path) -> None:
    """Detach the loop devices; one stays as long as a process in another mount namespace has its file system
    mounted."""
    _detach(_loops(folder))
    try:
        wait_for("loop devices are detached", lambda: not _loops(folder), within=20)
    except TimedOut:
        say(f"still attached, because some process keeps the file system mounted: {', '.join(_loops(folder))}")


def _pod_interfaces() -> list[str]:
    """The host's ends of pods' links: what routes to an address of the pods' subnet, or carries its first address."""
    subnet = ipaddress.IPv4Network(node.POD_SUBNET)
    found = set()
    for route in json.loads(host.run("ip", "-4", "-json", "route", "show") or "[]"):
        with contextlib.suppress(ValueError):
            if ipaddress.IPv4Network(route["dst"], strict=False).subnet_of(subnet):
                found.add(route["dev"])
    for link in json.loads(host.run("ip", "-4", "-json", "address", "show") or "[]"):
        if any(ipaddress.IPv4Address(each["local"]) in subnet for each in link["addr_info"]):
            found.add(link["ifname"])
    return sorted(found)


def _remove_interfaces() -> None:
    """Delete what is left of the pods' links; they go by themselves, a little after their network namespace."""
    for name in _pod_interfaces():
        subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)
    wait_for("the pods' interfaces are gone", lambda: not _pod_interfaces(), within=20)


def _remove_cgroups() -> None:
    for root in node.cgroup_folders():
        if not root.exists():
            continue
        for path, _, _ in os.walk(root, topdown=False):
            wait_for(f"the cgroup {path} is empty", functools.partial(_remove_folder, path), within=20)


def _remove_folder(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _table_exists(family: str, name: str) -> bool:
    if (nft := host.find("nft")) is None:
        return False
    return subprocess.run([nft, "list", "table", family, name], capture_output=True, check=False).returncode == 0


def _remove_proxy_rules() -> None:
    for family, name in node.PROXY_TABLES:
        if _table_exists(family, name):
            host.run("nft", "delete", "table", family, name)


def _links(folder: Path) -> list[Path]:
    """The kubelet's links in /var/log/containers that lead to the cluster's logs."""
    if not _CONTAINER_LOGS.is_dir():
        return []
    return [
        path for path in _CONTAINER_LOGS.iterdir() if path.is_symlink() and os.readlink(path).startswith(f"{folder}/")
    ]


def _remove_links(folder: Path) -> None:
    for path in _links(folder):
        path.unlink(missing_ok=True)
