"""What the machine must have before a cluster can run on it, and how it gets there."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.programs import say

PACKAGES = {
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "mkfs.btrfs": "btrfs-progs",
    "losetup": "mount",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
    "gcc": "gcc",
    "fusermount3": "fuse3",
}
"""The Debian package that each program comes from."""

FILE_SYSTEMS = ("overlay", "btrfs")
APT_LOCKED_FOR = 300.0
"""Seconds for which apt may be somebody else's."""


class HostError(Exception):
    """This machine can't run the cluster; the text says what is missing and what would help."""


def prepare(*programs: str) -> None:
    """Install the Debian packages of those of `programs` that are missing, saying so; raises HostError where it
    can't."""
    if os.geteuid() != 0:
        raise HostError(
            "a cluster on this machine needs root (mounts, network interfaces, cgroups): run as root, start a Docker"
            " engine (kind is used then), or name a cluster by LOWTIDE_TEST_KUBECONFIG"
        )
    missing = sorted({PACKAGES[name] for name in programs if find(name) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise HostError(f"missing: {', '.join(missing)}, and this is no Debian; install them, or start a Docker engine")
    say(f"installing {' '.join(missing)}")
    began = time.monotonic()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
    ):
        _run_when_unlocked(command, environment)
    say(f"installed in {time.monotonic() - began:.0f} s")


def _run_when_unlocked(command: list[str], environment: dict[str, str]) -> None:
    """Run a command of apt; waits while another one, such as that of a fresh machine's timer, holds its locks."""
    deadline = time.monotonic() + APT_LOCKED_FOR
    while True:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if "Could not get lock" not in done.stderr or time.monotonic() > deadline:
            raise HostError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-1000:]}")
        time.sleep(2)


def find(program: str) -> str | None:
    """The path of an installed program, also where PATH lacks the folders for administrators."""
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")


def check_kernel() -> None:
    """Raise HostError where the kernel lacks a file system that the cluster needs."""
    for name in FILE_SYSTEMS:
        if name not in Path("/proc/filesystems").read_text().split() and modprobe(name) != 0:
            raise HostError(f"the kernel has no {name}, and modprobe {name} failed")


def modprobe(module: str) -> int:
    """Load a kernel module; answers the exit code."""
    program = find("modprobe")
    return subprocess.run([program, module], check=False, capture_output=True).returncode if program else 1


def address() -> str:
    """The machine's own IPv4 address: the one it would send from to the outside. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))
        except OSError as error:
            raise HostError("this machine has no IPv4 address but loopback; pods could not reach it") from error
        return str(probe.getsockname()[0])


def state_folder() -> Path:
    """The folder of the cluster on this machine."""
    return Path(os.environ.get("LOWTIDE_CLUSTER_DIR", "/var/lib/lowtide-test-cluster")).resolve()


def run(*command: str | Path) -> str:
    """Run a program that must succeed; answers its output, raises HostError with what it said."""
    argv = [str(part) for part in command]
    argv[0] = find(argv[0]) or argv[0]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(
            f"`{' '.join(argv)}` failed ({done.returncode}): {(done.stderr or done.stdout).strip()[-1000:]}"
        )
    return done.stdout
