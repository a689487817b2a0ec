"""A CSI driver for the tests, over one btrfs file system: a subvolume per volume, real snapshots, alone or of several
volumes at one moment, clones of both. A block volume is a file in its subvolume, behind a loop device where
it is staged.

Run as a program by the cluster, in a Python of its own that has grpcio and the stubs made from the CSI
specification's csi.proto and the kubelet's pluginregistration. It serves the CSI socket and the kubelet's
registration socket itself. Every call may come twice (CSI asks for that, and the kubelet does it after a restart):
what is there already is a success.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, NoReturn

import csi_pb2
import csi_pb2_grpc
import grpc
import registration_pb2
import registration_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp

LOG = logging.getLogger("csi")
NAME_RULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
DEFAULT_SIZE = 1 << 30
DISK = "disk.img"


class Store:
    """Volumes and snapshots as subvolumes of one btrfs; each has a JSON record beside it, written before it is made.

    A record names the size, whether it is a block volume, and what it was made from, so that a repeated call can be
    told from a conflicting one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = threading.Lock()
        for kind in ("volumes", "snapshots", "records"):
            (root / kind).mkdir(exist_ok=True)

    def path(self, kind: str, name: str) -> Path:
        """Where a subvolume is; `kind` is volumes or snapshots."""
        return self.root / kind / name

    def record(self, kind: str, name: str) -> dict[str, Any] | None:
        """What was noted of a volume or snapshot; None where there is none."""
        with contextlib.suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads((self.root / "records" / f"{kind}.{name}").read_text())
            return found
        return None

    def note(self, kind: str, name: str, note: dict[str, Any]) -> None:
        """Write the record of a volume, a snapshot or a group of snapshots."""
        path = self.root / "records" / f"{kind}.{name}"
        draft = path.with_name(f".{path.name}")
        draft.write_text(json.dumps(note))
        draft.rename(path)

    def make(self, kind: str, name: str, note: dict[str, Any], source: Path | None) -> None:
        """Make an empty subvolume, or one that shares everything with `source`; snapshots are read-only."""
        self.note(kind, name, note)
        target = self.path(kind, name)
        if target.exists():
            return
        if source is None:
            btrfs("subvolume", "create", target)
            target.chmod(0o755)
        else:
            btrfs("subvolume", "snapshot", *(["-r"] if kind == "snapshots" else []), source, target)

    def disk(self, name: str) -> Path:
        """The file that is the content of a block volume."""
        return self.path("volumes", name) / DISK

    def remove(self, kind: str, name: str) -> None:
        """Delete a subvolume and its record; nothing happens where they are gone."""
        target = self.path(kind, name)
        if target.exists():
            btrfs("subvolume", "delete", "--commit-after", target)
        (self.root / "records" / f"{kind}.{name}").unlink(missing_ok=True)


def btrfs(*arguments: str | Path) -> None:
    """Run the btrfs program; raises CalledProcessError with what it said."""
    subprocess.run(["btrfs", *map(str, arguments)], check=True, capture_output=True, text=True)


def loops(disk: Path) -> list[str]:
    """The loop devices that a file is behind."""
    shown = subprocess.run(
        ["losetup", "--list", "--noheadings", "--output", "NAME", "--associated", str(disk)],
        check=True,
        capture_output=True,
        text=True,
    )
    return shown.stdout.split()


def attach(disk: Path) -> str:
    """The loop device of a file, made where there is none."""
    for device in loops(disk):
        return device
    made = subprocess.run(["losetup", "--find", "--show", str(disk)], check=True, capture_output=True, text=True)
    return made.stdout.strip()


def detach(disk: Path) -> None:
    """Take the file from behind its loop devices."""
    for device in loops(disk):
        subprocess.run(["losetup", "--detach", device], check=True, capture_output=True, text=True)


def flush(disk: Path) -> None:
    """Bring into the file what was written to its loop devices and is still in memory."""
    for device in loops(disk):
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def mounted(target: str) -> bool:
    """Whether something is mounted exactly there."""
    return any(point == target for point, _ in mounts())


def mounts() -> list[tuple[str, str]]:
    """Every mount as (mount point, root within its file system)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        found.append((unescape(fields[4]), unescape(fields[3])))
    return found


@contextlib.contextmanager
def stopped(volumes: list[str]) -> Iterator[None]:
    """Stop every process that has one of the volumes mounted in a mount namespace of its own (a container's), for the
    time of a `with` block: btrfs takes its subvolumes one after the other, and nothing may be written in between.

    A storage array would hold back the writes; a process that doesn't run notices as little.
    """
    own = os.readlink("/proc/self/ns/mnt")
    roots = {f"/volumes/{volume}" for volume in volumes}
    held: set[int] = set()
    try:
        while users := {pid for pid in users_of(roots, own) if pid not in held}:
            for pid in users:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            held |= users
            # Stopped is a state that each thread takes by itself; what it forked before is found by looking again.
            while any(state_of(pid) not in "TtZX" for pid in held):
                time.sleep(0.001)
        yield
    finally:
        for pid in held:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def users_of(roots: set[str], own: str) -> Iterator[int]:
    """The processes of other mount namespaces than `own` in which one of the `roots` is mounted."""
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/mnt") != own:
                lines = Path("/proc", entry, "mountinfo").read_text().splitlines()
                if any(unescape(line.split()[3]) in roots for line in lines):
                    yield int(entry)


def state_of(pid: int) -> str:
    """The states of a process' threads that are not stopped, as one letter; X where it is gone."""
    states = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                states.append(Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()[0])
    return next((state for state in states if state not in "TtZX"), "X")


def unescape(text: str) -> str:
    """A path of mountinfo, in which blanks and backslashes are octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def bind(source: str | Path, target: str, *, read_only: bool) -> None:
    """Bind-mount a folder or a device at `target`, which is made; nothing happens where it is mounted already."""
    if Path(source).is_dir():
        Path(target).mkdir(parents=True, exist_ok=True)
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).touch()
    if mounted(target):
        return
    subprocess.run(["mount", "--bind", str(source), target], check=True, capture_output=True, text=True)
    if read_only:
        subprocess.run(["mount", "-o", "remount,bind,ro", target], check=True, capture_output=True, text=True)


def unbind(target: str) -> None:
    """Undo `bind` and remove the folder or file; nothing happens where it is gone."""
    while mounted(target):
        subprocess.run(["umount", target], check=True, capture_output=True, text=True)
    with contextlib.suppress(FileNotFoundError):
        if os.path.isdir(target):
            os.rmdir(target)
        else:
            os.unlink(target)


def refuse(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    """End the call with an error for the caller."""
    context.abort(code, text)
    raise AssertionError("abort always raises")


def named(context: grpc.ServicerContext, value: str, what: str) -> str:
    """A name that may become a file's name, or the end of the call."""
    if not NAME_RULE.fullmatch(value):
        refuse(context, grpc.StatusCode.INVALID_ARGUMENT, f"{what} is missing or not a plain name: {value!r}")
    return value


class Identity(csi_pb2_grpc.IdentityServicer):
    """Who the driver is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return csi_pb2.GetPluginInfoResponse(name=self.name, vendor_version="1.0.0")

    def GetPluginCapabilities(self, request: Any, context: grpc.ServicerContext) -> Any:
        service = csi_pb2.PluginCapability.Service
        return csi_pb2.GetPluginCapabilitiesResponse(
            capabilities=[
                csi_pb2.PluginCapability(service=service(type=kind))
                for kind in (service.CONTROLLER_SERVICE, service.GROUP_CONTROLLER_SERVICE)
            ]
        )

    def Probe(self, request: Any, context: grpc.ServicerContext) -> Any:
        return csi_pb2.ProbeResponse()


class Controller(csi_pb2_grpc.ControllerServicer):
    """Makes and deletes volumes and snapshots."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def ControllerGetCapabilities(self, request: Any, context: grpc.ServicerContext) -> Any:
        rpc = csi_pb2.ControllerServiceCapability.RPC
        kinds = [rpc.CREATE_DELETE_VOLUME, rpc.CREATE_DELETE_SNAPSHOT, rpc.CLONE_VOLUME, rpc.SINGLE_NODE_MULTI_WRITER]
        return csi_pb2.ControllerGetCapabilitiesResponse(
            capabilities=[csi_pb2.ControllerServiceCapability(rpc=rpc(type=kind)) for kind in kinds]
        )

    def ValidateVolumeCapabilities(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.store.record("volumes", named(context, request.volume_id, "volume_id")) is None:
            refuse(context, grpc.StatusCode.NOT_FOUND, f"no volume {request.volume_id}")
        confirmed = csi_pb2.ValidateVolumeCapabilitiesResponse.Confirmed(
            volume_capabilities=request.volume_capabilities
        )
        return csi_pb2.ValidateVolumeCapabilitiesResponse(confirmed=confirmed)

    def CreateVolume(self, request: Any, context: grpc.ServicerContext) -> Any:
        name = named(context, request.name, "name")
        block = any(capability.HasField("block") for capability in request.volume_capabilities)
        kind, origin, source = "", "", None
        if request.HasField("volume_content_source"):
            content = request.volume_content_source
            kind = "snapshots" if content.WhichOneof("type") == "snapshot" else "volumes"
            origin = content.snapshot.snapshot_id if kind == "snapshots" else content.volume.volume_id
            named(context, origin, "the source's id")
        with self.store.lock:
            size = request.capacity_range.required_bytes or DEFAULT_SIZE
            if kind:
                note = self.store.record(kind, origin)
                if note is None or not self.store.path(kind, origin).exists():
                    refuse(context, grpc.StatusCode.NOT_FOUND, f"no source {kind}/{origin}")
                if block != note["block"]:
                    refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "the source has another volume mode")
                if size < note["size"]:
                    refuse(
                        context,
                        grpc.StatusCode.OUT_OF_RANGE,
                        f"{size} bytes are fewer than the source's {note['size']}",
                    )
                source = self.store.path(kind, origin)
                if kind == "volumes":
                    flush(self.store.disk(origin))
            note = {"size": size, "kind": kind, "origin": origin, "block": block}
            known = self.store.record("volumes", name)
            if known is not None and known != note:
                refuse(context, grpc.StatusCode.ALREADY_EXISTS, f"volume {name} is there with other properties")
            self.store.make("volumes", name, note, source)
            if block:
                with self.store.disk(name).open("ab") as disk:
                    disk.truncate(size)
        volume = csi_pb2.Volume(volume_id=name, capacity_bytes=size)
        if kind:
            volume.content_source.CopyFrom(request.volume_content_source)
        return csi_pb2.CreateVolumeResponse(volume=volume)

    def DeleteVolume(self, request: Any, context: grpc.ServicerContext) -> Any:
        name = named(context, request.volume_id, "volume_id")
        with self.store.lock:
            root = f"/volumes/{name}"
            held = [point for point, origin in mounts() if origin == root]
            held += loops(self.store.disk(name))
            if held:
                refuse(context, grpc.StatusCode.FAILED_PRECONDITION, f"volume {name} is in use at {held[0]}")
            self.store.remove("volumes", name)
        return csi_pb2.DeleteVolumeResponse()

    def CreateSnapshot(self, request: Any, context: grpc.ServicerContext) -> Any:
        name = named(context, request.name, "name")
        origin = named(context, request.source_volume_id, "source_volume_id")
        with self.store.lock:
            known = self.store.record("snapshots", name)
            if known is not None and known["origin"] != origin:
                refuse(context, grpc.StatusCode.ALREADY_EXISTS, f"snapshot {name} is there, of {known['origin']}")
            note = known
            if note is None or not self.store.path("snapshots", name).exists():
                volume = self.store.record("volumes", origin)
                if volume is None:
                    refuse(context, grpc.StatusCode.NOT_FOUND, f"no volume {origin}")
                stamp = Timestamp()
                stamp.GetCurrentTime()
                flush(self.store.disk(origin))
                made = stamp.ToJsonString()
                note = {"size": volume["size"], "origin": origin, "made": made, "block": volume["block"]}
                self.store.make("snapshots", name, note, self.store.path("volumes", origin))
        snapshot = csi_pb2.Snapshot(
            snapshot_id=name, source_volume_id=origin, size_bytes=note["size"], ready_to_use=True
        )
        snapshot.creation_time.FromJsonString(note["made"])
        return csi_pb2.CreateSnapshotResponse(snapshot=snapshot)

    def DeleteSnapshot(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self.store.lock:
            self.store.remove("snapshots", named(context, request.snapshot_id, "snapshot_id"))
        return csi_pb2.DeleteSnapshotResponse()


class GroupController(csi_pb2_grpc.GroupControllerServicer):
    """Takes snapshots of several volumes at one moment."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def GroupControllerGetCapabilities(self, request: Any, context: grpc.ServicerContext) -> Any:
        rpc = csi_pb2.GroupControllerServiceCapability.RPC
        both = csi_pb2.GroupControllerServiceCapability(rpc=rpc(type=rpc.CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT))
        return csi_pb2.GroupControllerGetCapabilitiesResponse(capabilities=[both])

    def CreateVolumeGroupSnapshot(self, request: Any, context: grpc.ServicerContext) -> Any:
        name = named(context, request.name, "name")
        origins = sorted(named(context, origin, "a source_volume_id") for origin in request.source_volume_ids)
        if not origins:
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "source_volume_ids is missing")
        with self.store.lock:
            known = self.store.record("groups", name)
            if known is not None and known["origins"] != origins:
                refuse(context, grpc.StatusCode.ALREADY_EXISTS, f"group {name} is there, of {known['origins']}")
            if known is None or "made" not in known:
                known = self._take(name, origins, context)
        return csi_pb2.CreateVolumeGroupSnapshotResponse(group_snapshot=self._message(name, known))

    def _take(self, name: str, origins: list[str], context: grpc.ServicerContext) -> dict[str, Any]:
        """The record of the group, once all is taken. What a killed driver took of it before is another moment's."""
        volumes = {}
        for origin in origins:
            volume = self.store.record("volumes", origin)
            if volume is None:
                refuse(context, grpc.StatusCode.NOT_FOUND, f"no volume {origin}")
            volumes[origin] = volume
        note: dict[str, Any] = {"origins": origins}
        self.store.note("groups", name, note)
        for origin in origins:
            self.store.remove("snapshots", f"{name}.{origin}")
        with stopped(origins):
            stamp = Timestamp()
            stamp.GetCurrentTime()
            made = stamp.ToJsonString()
            for origin in origins:
                flush(self.store.disk(origin))
                volume = volumes[origin]
                member = {"size": volume["size"], "origin": origin, "made": made, "block": volume["block"]}
                self.store.make("snapshots", f"{name}.{origin}", member, self.store.path("volumes", origin))
        note["made"] = made
        self.store.note("groups", name, note)
        return note

    def _message(self, name: str, note: dict[str, Any]) -> Any:
        group = csi_pb2.VolumeGroupSnapshot(group_snapshot_id=name, ready_to_use=True)
        group.creation_time.FromJsonString(note["made"])
        for origin in note["origins"]:
            snapshot = f"{name}.{origin}"
            member = self.store.record("snapshots", snapshot) or {}
            group.snapshots.add(
                snapshot_id=snapshot,
                source_volume_id=origin,
                size_bytes=member.get("size", 0),
                ready_to_use=self.store.path("snapshots", snapshot).exists(),
                group_snapshot_id=name,
            ).creation_time.FromJsonString(note["made"])
        group.ready_to_use = all(snapshot.ready_to_use for snapshot in group.snapshots)
        return group

    def _known(self, request: Any, context: grpc.ServicerContext) -> tuple[str, dict[str, Any] | None]:
        """The name and the record of the group that a request names, whose members must be those that it names."""
        name = named(context, request.group_snapshot_id, "group_snapshot_id")
        note = self.store.record("groups", name)
        if note is not None and sorted(request.snapshot_ids) != sorted(f"{name}.{o}" for o in note["origins"]):
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, f"group {name} has other snapshots than those")
        return name, note

    def DeleteVolumeGroupSnapshot(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self.store.lock:
            name, note = self._known(request, context)
            for origin in note["origins"] if note is not None else ():
                self.store.remove("snapshots", f"{name}.{origin}")
            self.store.remove("groups", name)
        return csi_pb2.DeleteVolumeGroupSnapshotResponse()

    def GetVolumeGroupSnapshot(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self.store.lock:
            name, note = self._known(request, context)
            if note is None or "made" not in note:
                refuse(context, grpc.StatusCode.NOT_FOUND, f"no group {name}")
            return csi_pb2.GetVolumeGroupSnapshotResponse(group_snapshot=self._message(name, note))


class Node(csi_pb2_grpc.NodeServicer):
    """Stages and publishes volumes by bind mounts, and block volumes by loop devices."""

    def __init__(self, store: Store, node: str) -> None:
        self.store = store
        self.node = node
        self.lock = threading.Lock()

    def NodeGetInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return csi_pb2.NodeGetInfoResponse(node_id=self.node)

    def NodeGetCapabilities(self, request: Any, context: grpc.ServicerContext) -> Any:
        rpc = csi_pb2.NodeServiceCapability.RPC
        kinds = [rpc.STAGE_UNSTAGE_VOLUME, rpc.SINGLE_NODE_MULTI_WRITER]
        return csi_pb2.NodeGetCapabilitiesResponse(
            capabilities=[csi_pb2.NodeServiceCapability(rpc=rpc(type=kind)) for kind in kinds]
        )

    def NodeStageVolume(self, request: Any, context: grpc.ServicerContext) -> Any:
        source = self.store.path("volumes", named(context, request.volume_id, "volume_id"))
        if not source.exists():
            refuse(context, grpc.StatusCode.NOT_FOUND, f"no volume {request.volume_id}")
        with self.lock:
            if request.volume_capability.HasField("block"):
                attach(self.store.disk(request.volume_id))
            else:
                bind(source, request.staging_target_path, read_only=False)
        return csi_pb2.NodeStageVolumeResponse()

    def NodeUnstageVolume(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self.lock:
            unbind(request.staging_target_path)
            detach(self.store.disk(named(context, request.volume_id, "volume_id")))
        return csi_pb2.NodeUnstageVolumeResponse()

    def NodePublishVolume(self, request: Any, context: grpc.ServicerContext) -> Any:
        staged: str | None = request.staging_target_path if mounted(request.staging_target_path) else None
        if request.volume_capability.HasField("block"):
            staged = next(iter(loops(self.store.disk(named(context, request.volume_id, "volume_id")))), None)
        if staged is None:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, f"volume {request.volume_id} is not staged")
        with self.lock:
            bind(staged, request.target_path, read_only=request.readonly)
        return csi_pb2.NodePublishVolumeResponse()

    def NodeUnpublishVolume(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self.lock:
            unbind(request.target_path)
        return csi_pb2.NodeUnpublishVolumeResponse()


class Registration(registration_pb2_grpc.RegistrationServicer):
    """Tells the kubelet where the driver's socket is."""

    def __init__(self, name: str, endpoint: Path) -> None:
        self.name = name
        self.endpoint = endpoint

    def GetInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return registration_pb2.PluginInfo(
            type="CSIPlugin", name=self.name, endpoint=str(self.endpoint), supported_versions=["1.0.0"]
        )

    def NotifyRegistrationStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        LOG.info("registered with the kubelet: %s %s", request.plugin_registered, request.error)
        return registration_pb2.RegistrationStatusResponse()


class Calls(grpc.ServerInterceptor):  # type: ignore[misc]
    """Logs each call that changes something, and its errors."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        method = details.method.rpartition("/")[2]
        if handler is None or method.startswith(("Probe", "Get", "NodeGet", "ControllerGet", "GroupControllerGet")):
            return handler

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            LOG.info("%s %s", method, " ".join(str(request).split())[:300])
            try:
                return handler.unary_unary(request, context)
            except subprocess.CalledProcessError as error:
                LOG.error("%s failed: %s %s", method, error, error.stderr)
                return refuse(context, grpc.StatusCode.INTERNAL, f"{error}: {error.stderr}")

        return grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


def serve(socket: Path, register: Any) -> grpc.Server:
    """A server on a socket file; one that a killed driver left is removed first."""
    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[Calls()])
    register(server)
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    return server


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--root", type=Path, required=True, help="a folder on btrfs")
    parser.add_argument("--kubelet", type=Path, required=True, help="the kubelet's root folder")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    store = Store(options.root)
    endpoint = options.kubelet / "plugins" / options.name / "csi.sock"

    def csi(server: grpc.Server) -> None:
        csi_pb2_grpc.add_IdentityServicer_to_server(Identity(options.name), server)
        csi_pb2_grpc.add_ControllerServicer_to_server(Controller(store), server)
        csi_pb2_grpc.add_GroupControllerServicer_to_server(GroupController(store), server)
        csi_pb2_grpc.add_NodeServicer_to_server(Node(store, options.node), server)

    def registration(server: grpc.Server) -> None:
        registration_pb2_grpc.add_RegistrationServicer_to_server(Registration(options.name, endpoint), server)

    over = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: over.set())
    servers = [
        serve(endpoint, csi),
        serve(options.kubelet / "plugins_registry" / f"{options.name}-reg.sock", registration),
    ]
    LOG.info("serving %s", endpoint)
    over.wait()
    for server in servers:
        server.stop(grace=2).wait()


if __name__ == "__main__":
    main()
