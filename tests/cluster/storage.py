"""Volumes with real snapshots: the btrfs CSI driver on a loop device, its sidecars, and the classes that tests name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from tests import programs
from tests.cluster import host, node, processes
from tests.cluster.controlplane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import Process
from tests.cluster.waiting import wait_for

DRIVER = "btrfs.csi.lowtide.dev"
CLASS = "lowtide-btrfs"
WAITING_CLASS = "lowtide-btrfs-wait"
SNAPSHOT_CLASS = "lowtide-btrfs"

SIZE = 40 << 30
"""Of the file with the file system, in bytes; it is sparse."""

_HERE = Path(__file__).resolve().parent / "csi"
_DEFINITIONS = (
    *(f"volumesnapshot{kind}.snapshot.storage.k8s.io" for kind in ("classes", "contents", "s")),
    *(f"volumegroupsnapshot{kind}.groupsnapshot.storage.k8s.io" for kind in ("classes", "contents", "s")),
)
"""The names of the definitions, and of the kinds as kubectl takes them."""


def volumes_root(folder: Path) -> Path:
    """Where the btrfs is mounted."""
    return folder / "volumes"


def python_with_grpc() -> Path:
    """A Python that has grpcio and the CSI stubs, made once in the cache; answers the program's path.

    The stubs are generated from the .proto files in the Go modules that the tools' pins choose.
    """
    requirements = _HERE / "requirements.txt"
    specification = programs.module_source("external-snapshotter", "github.com/container-storage-interface/spec")
    registration = programs.module_source("kubernetes", "k8s.io/kubelet")
    protos = {
        "csi": specification / "csi.proto",
        "registration": registration / "pkg" / "apis" / "pluginregistration" / "v1" / "api.proto",
    }
    digest = hashlib.sha256(sys.version.encode())
    for path in (requirements, *protos.values()):
        digest.update(path.read_bytes())
    folder = programs.cache_root() / "tools" / f"csi-python-{digest.hexdigest()[:16]}"

    def make(draft: Path) -> None:
        shutil.rmtree(folder / "venv", ignore_errors=True)
        venv = folder / "venv"
        own = venv / "bin" / "python"
        host.run(sys.executable, "-m", "venv", venv)
        host.run(own, "-m", "pip", "install", "-q", "--require-hashes", "-r", requirements)
        site = Path(host.run(own, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        sources = folder / "protos"
        sources.mkdir(exist_ok=True)
        for name, path in protos.items():
            (sources / f"{name}.proto").write_bytes(path.read_bytes())
        files = [f"{name}.proto" for name in protos]
        outputs = (f"--python_out={site}", f"--grpc_python_out={site}")
        host.run(own, "-m", "grpc_tools.protoc", f"-I{sources}", *outputs, *files)
        draft.write_text("made\n")

    programs.cached(folder, "python-with-grpc", make)
    return folder / "venv" / "bin" / "python"


def mount_volumes(folder: Path) -> None:
    """Make the file system in a sparse file and mount it."""
    image, root = folder / "volumes.img", volumes_root(folder)
    root.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as handle:
        os.truncate(handle.fileno(), SIZE)
    host.run("mkfs.btrfs", "--quiet", image)
    host.run("mount", "-o", "loop,noatime,user_subvol_rm_allowed", image, root)


def define_snapshots(kubectl: Kubectl) -> None:
    """Apply the CRDs of snapshots and of groups of them, and wait until the API server serves the kinds."""
    client = programs.module_source("external-snapshotter", "github.com/kubernetes-csi/external-snapshotter/client/v8")
    parts = (name.partition(".") for name in _DEFINITIONS)
    files = [client / "config" / "crd" / f"{group}_{plural}.yaml" for plural, _, group in parts]
    arguments = [part for path in files for part in ("-f", str(path))]
    kubectl("apply", "--server-side", *arguments)
    kubectl(
        *("wait", "--for=condition=Established", "--timeout=60s"),
        *(f"crd/{name}" for name in _DEFINITIONS),
    )
    wait_for(
        "the API server serves the kinds of snapshots",
        lambda: all(kubectl.run("get", name).returncode == 0 for name in _DEFINITIONS),
        within=60,
        every=0.2,
    )


def remove_snapshots(kubectl: Kubectl) -> None:
    """Remove these CRDs, and wait until the API server has none of the kinds."""
    kubectl("delete", "--ignore-not-found", "--wait", *(f"crd/{name}" for name in _DEFINITIONS))
    wait_for(
        "the API server serves no snapshots any more",
        lambda: all("the server doesn't have a resource type" in kubectl.run("get", n).stderr for n in _DEFINITIONS),
        within=60,
        every=0.2,
    )


def apply_definitions(plane: ControlPlane) -> None:
    """Apply the snapshot CRDs, the driver object and the classes, and wait until the API server serves the kinds."""
    define_snapshots(plane.kubectl)
    plane.kubectl.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": {"name": DRIVER},
            "spec": {"attachRequired": False, "podInfoOnMount": False, "fsGroupPolicy": "File"},
        },
        _storage_class(CLASS, "Immediate", default=True),
        _storage_class(WAITING_CLASS, "WaitForFirstConsumer", default=False),
    )
    plane.kubectl.apply(
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotClass",
            "metadata": {
                "name": SNAPSHOT_CLASS,
                "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"},
            },
            "driver": DRIVER,
            "deletionPolicy": "Delete",
        },
        {
            "apiVersion": "groupsnapshot.storage.k8s.io/v1",
            "kind": "VolumeGroupSnapshotClass",
            "metadata": {"name": SNAPSHOT_CLASS},
            "driver": DRIVER,
            "deletionPolicy": "Delete",
        },
    )


def start_driver(plane: ControlPlane, mark: Path) -> Process:
    """Start the driver and its sidecars under their keeper; copies of both programs outlive the checkout."""
    folder = plane.folder
    own = folder / "csi"
    own.mkdir(parents=True, exist_ok=True)
    for name in ("driver.py", "keep.py"):
        shutil.copy(_HERE / name, own / name)
    python = python_with_grpc()
    root = node.kubelet_root(folder)
    access = f"--kubeconfig={plane.kubeconfig}"
    socket = f"--csi-address=unix://{root / 'plugins' / DRIVER / 'csi.sock'}"
    pace = ("--timeout=30s", "--retry-interval-start=500ms", "--retry-interval-max=5s")
    commands: dict[str, list[str | Path]] = {
        "csi-driver": [
            *(python, own / "driver.py", "--name", DRIVER, "--node", node.NODE),
            *("--root", volumes_root(folder), "--kubelet", root),
        ],
        "csi-provisioner": [programs.program("csi-provisioner"), access, socket, *pace],
        "csi-snapshotter": [programs.program("csi-snapshotter"), access, socket, *pace],
        "snapshot-controller": [
            *(programs.program("snapshot-controller"), access, *pace[1:]),
        ],
    }
    plan = {
        "logs": str(folder / "logs"),
        "commands": {name: [str(part) for part in command] for name, command in commands.items()},
    }
    (own / "keep.json").write_text(json.dumps(plan, indent=1))
    return processes.start(
        "csi-keeper", [python, own / "keep.py", own / "keep.json"], log=folder / "logs" / "csi-keeper.log", mark=mark
    )


def is_registered(kubectl: Kubectl) -> bool:
    """Whether the kubelet has registered the driver: the node's CSINode names it."""
    shown = kubectl.run("get", "csinode", node.NODE, "-o", "jsonpath={.spec.drivers[*].name}")
    return DRIVER in shown.stdout.split()


def wait_registered(plane: ControlPlane, keeper: Process, within: float = 60) -> None:
    """Wait until the kubelet has registered the driver; raises ChildProcessError where the keeper ends instead."""

    def registered() -> bool:
        if not keeper.alive():
            raise ChildProcessError(f"the CSI keeper ended; the end of its log:\n{keeper.tail()}")
        return is_registered(plane.kubectl)

    wait_for("the CSI driver is registered", registered, within=within, every=0.2, seen=keeper.tail)


def _storage_class(name: str, binding: str, *, default: bool) -> dict[str, object]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": name,
            "annotations": {"storageclass.kubernetes.io/is-default-class": str(default).lower()},
        },
        "provisioner": DRIVER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": binding,
    }
