"""From the API's JSON to what planners know: one function per kind, no request, no decision.

What Kubernetes leaves out is filled in as Kubernetes itself reads it (one replica, whenScaled Retain).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from lowtide_operator.api import BackupPolicy, BackupPolicyStatus, Restore, RestoreStatus, Snapshot, SnapshotStatus
from lowtide_operator.api.model import parse
from lowtide_operator.api.selectors import selector_text
from lowtide_operator.api.values import parse_time
from lowtide_operator.cluster.protocol import Manifest
from lowtide_operator.errors import InvalidObject
from lowtide_operator.planning.observed import (
    Attachment,
    Claim,
    Meta,
    MoverJobSeen,
    Node,
    Owner,
    PolicyObject,
    RestoreObject,
    SnapshotObject,
    Uid,
    Volume,
    Workload,
)
from lowtide_operator.planning.observed_copies import GroupSnapshot, SnapshotClass, StorageClass, VolumeSnapshot
from lowtide_operator.planning.observed_pods import Container, Identity, Pod
from lowtide_operator.reconcile import revisions

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
HOSTNAME = "kubernetes.io/hostname"


def meta(body: Manifest) -> Meta:
    """The metadata of any object."""
    data = body["metadata"]
    return Meta(
        namespace=data.get("namespace", ""),
        name=data["name"],
        uid=Uid(data["uid"]),
        resource_version=data["resourceVersion"],
        created=parse_time(data["creationTimestamp"]),
        generation=data.get("generation", 0),
        deleted=_time(data.get("deletionTimestamp")),
        finalizers=tuple(data.get("finalizers") or ()),
        labels=data.get("labels") or {},
        annotations=data.get("annotations") or {},
        owners=tuple(
            Owner(
                api_version=owner["apiVersion"],
                kind=owner["kind"],
                name=owner["name"],
                uid=Uid(owner["uid"]),
                controller=bool(owner.get("controller")),
            )
            for owner in data.get("ownerReferences") or ()
        ),
    )


def policy(body: Manifest, *, strict: bool = False) -> PolicyObject:
    """A BackupPolicy. Where its status can't be read: InvalidObject if `strict`, else an invalid object without one."""
    spec, status, invalid = _read(BackupPolicy, BackupPolicyStatus, body, strict)
    return PolicyObject(meta(body), spec, status, invalid)


def snapshot(body: Manifest, *, strict: bool = False) -> SnapshotObject:
    """A Snapshot; `strict` as for a policy."""
    spec, status, invalid = _read(Snapshot, SnapshotStatus, body, strict)
    return SnapshotObject(meta(body), spec, status, not body.get("status"), invalid)


def restore(body: Manifest, *, strict: bool = False) -> RestoreObject:
    """A Restore; `strict` as for a policy."""
    spec, status, invalid = _read(Restore, RestoreStatus, body, strict)
    return RestoreObject(meta(body), spec, status, not body.get("status"), invalid)


def pod(body: Manifest) -> Pod:
    """A pod, without its progress: that is in the log."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    name = body["metadata"]["name"]
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled")
    return Pod(
        meta=meta(body),
        phase=status.get("phase", "Pending"),
        node=spec.get("nodeName", ""),
        claims=_claims(spec, pod_name=name),
        ready=conditions.get("Ready", {}).get("status") == "True",
        scheduled=None if scheduled is None else scheduled["status"] == "True",
        unschedulable=scheduled.get("message", "") if scheduled and scheduled["status"] != "True" else "",
        started=_time(status.get("startTime")),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        containers=_containers(spec.get("containers"), status.get("containerStatuses")),
        init_containers=_containers(spec.get("initContainers"), status.get("initContainerStatuses")),
        identity=_identity(spec),
        tolerations=tuple(spec.get("tolerations") or ()),
    )


def workload(body: Manifest) -> Workload:
    """Anything with a pod template."""
    kind, spec, status = body["kind"], body.get("spec") or {}, body.get("status") or {}
    counted = kind in ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController")
    outer = spec.get("jobTemplate", {}).get("spec", {}) if kind == "CronJob" else spec
    template = (outer.get("template") or {}).get("spec") or {}
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    return Workload(
        api_version=body["apiVersion"],
        kind=kind,
        meta=meta(body),
        replicas=spec.get("replicas", 1) if counted else None,
        ready=status.get("readyReplicas", 0) if counted else 0,
        observed_generation=status.get("observedGeneration", 0),
        suspended=bool(spec.get("suspend")),
        claims=_claims(template),
        claim_templates=tuple(claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates") or ()),
        when_scaled=retention.get("whenScaled", "Retain"),
        template=revisions.template(body),
        half_updated=revisions.is_half_updated(body),
        update_kept_by=revisions.update_kept_by(body),
        identity=_identity(template),
        tolerations=tuple(template.get("tolerations") or ()),
        finished=kind == "Job" and any(is_true(status, name) for name in ("Complete", "Failed")),
        started=_time(status.get("startTime")),
        writer=_writer(body, "f:suspend" if kind in ("Job", "CronJob") else "f:replicas"),
        selector=selector_text(spec.get("selector") or {}) if counted and kind != "ReplicationController" else "",
        applied_count=_applied_count(body, "suspend" if kind in ("Job", "CronJob") else "replicas"),
    )


def _applied_count(body: Manifest, field: str) -> bool:
    """Whether Argo CD applied the field: by the note of a client-side apply, else by its field manager."""
    try:
        applied = json.loads((body["metadata"].get("annotations") or {})[LAST_APPLIED])
    except (KeyError, ValueError):
        applied = {}
    managers = (
        entry.get("manager", "")
        for entry in body["metadata"].get("managedFields") or ()
        if f"f:{field}" in (entry.get("fieldsV1") or {}).get("f:spec", {})
    )
    return field in (applied.get("spec") or {}) or any(manager.startswith("argocd") for manager in managers)


def _writer(body: Manifest, field: str) -> str:
    """The field manager that set that field of the spec last; who applies shares it with who set it before."""
    owners = [
        entry
        for entry in body["metadata"].get("managedFields") or ()
        if field in (entry.get("fieldsV1") or {}).get("f:spec", {})
    ]
    newest: Mapping[str, Any] = max(owners, key=lambda entry: entry.get("time") or "", default={})
    return str(newest.get("manager", ""))


def claim(body: Manifest) -> Claim:
    """A PersistentVolumeClaim."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    requested = ((spec.get("resources") or {}).get("requests") or {}).get("storage", "")
    return Claim(
        meta=meta(body),
        phase=status.get("phase", "Pending"),
        volume=spec.get("volumeName", ""),
        storage_class=spec.get("storageClassName") or "",
        access_modes=tuple(spec.get("accessModes") or ()),
        volume_mode=spec.get("volumeMode", "Filesystem"),
        size=(status.get("capacity") or {}).get("storage") or requested,
    )


def volume(body: Manifest, driver: Manifest | None) -> Volume:
    """A PersistentVolume, with the CSIDriver object of its driver where there is one.

    `nodes` is None also for an affinity that does not name hosts, by zone for example: that is the scheduler's to read.
    """
    spec = body.get("spec") or {}
    csi = spec.get("csi") or {}
    required = ((spec.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or ()
    hosts = [_hosts(term) for term in required]
    return Volume(
        name=body["metadata"]["name"],
        driver=csi.get("driver", ""),
        attach_required=driver is not None and (driver.get("spec") or {}).get("attachRequired", True),
        nodes=tuple(name for names in hosts for name in names or ()) if hosts and None not in hosts else None,
        node_terms=tuple(required),
    )


def storage_class(body: Manifest) -> StorageClass:
    """A StorageClass."""
    return StorageClass(
        name=body["metadata"]["name"],
        provisioner=body.get("provisioner", ""),
        waits=body.get("volumeBindingMode") == "WaitForFirstConsumer",
        retains=body.get("reclaimPolicy", "Delete") == "Retain",
    )


def snapshot_class(body: Manifest) -> SnapshotClass:
    """A VolumeSnapshotClass or VolumeGroupSnapshotClass."""
    annotations = body["metadata"].get("annotations") or {}
    prefix = body["apiVersion"].partition(".")[0]  # snapshot or groupsnapshot
    return SnapshotClass(
        name=body["metadata"]["name"],
        driver=body.get("driver", ""),
        default=annotations.get(f"{prefix}.storage.kubernetes.io/is-default-class") == "true",
        retains=body.get("deletionPolicy") == "Retain",
    )


def volume_snapshot(body: Manifest) -> VolumeSnapshot:
    """A VolumeSnapshot."""
    status = body.get("status") or {}
    error = status.get("error")
    return VolumeSnapshot(
        meta=meta(body),
        claim=((body.get("spec") or {}).get("source") or {}).get("persistentVolumeClaimName") or "",
        ready=bool(status.get("boundVolumeSnapshotContentName")) and bool(status.get("readyToUse")) and not error,
        error=(error or {}).get("message", ""),
        size=status.get("restoreSize", ""),
    )


def group_snapshot(body: Manifest) -> GroupSnapshot:
    """A VolumeGroupSnapshot."""
    status = body.get("status") or {}
    error = status.get("error")
    bound = bool(status.get("boundVolumeGroupSnapshotContentName"))
    return GroupSnapshot(
        meta=meta(body),
        bound=bound,
        ready=bound and bool(status.get("readyToUse")) and not error,
        error=(error or {}).get("message", ""),
    )


def trouble(events: Iterable[Manifest]) -> str:
    """The message of the newest warning among events; "" where there is none."""
    warnings = [event for event in events if event.get("type") == "Warning"]
    newest = max(warnings, key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "", default={})
    return str(newest.get("message", ""))


def attachment(body: Manifest) -> Attachment:
    """A VolumeAttachment."""
    spec = body["spec"]
    return Attachment(volume=spec["source"].get("persistentVolumeName", ""), node=spec.get("nodeName", ""))


def node(body: Manifest) -> Node:
    """A Node."""
    return Node(name=body["metadata"]["name"], ready=is_true(body.get("status") or {}, "Ready"))


def mover_job(body: Manifest) -> MoverJobSeen:
    """A Job of ours."""
    status = body.get("status") or {}
    met: dict[str, Any] = {c["type"]: c for c in status.get("conditions") or () if c["status"] == "True"}
    failed: Mapping[str, Any] = met.get("Failed") or met.get("FailureTarget") or {}
    return MoverJobSeen(
        meta=meta(body),
        complete="Complete" in met,
        failed="Failed" in met,
        reason=failed.get("reason", ""),
        message=failed.get("message", ""),
        started=_time(status.get("startTime")),
        finished=_time(status.get("completionTime") or met.get("Failed", {}).get("lastTransitionTime")),
    )


def _read(model: type[Any], status_model: type[Any], body: Manifest, strict: bool) -> tuple[Any, Any, str]:
    """The spec (None where the object can't be read), the status, and the sentence why it can't be read."""
    try:
        whole = parse(model, body)
    except InvalidObject as error:
        try:
            status = status_model.model_validate(body.get("status") or {})
        except ValidationError:
            if strict:
                raise error from None
            status = status_model()
        return None, status, str(error)
    return whole.spec, whole.status, ""


def _time(text: str | None) -> datetime | None:
    return parse_time(text) if text else None


def is_true(status: Mapping[str, Any], kind: str) -> bool:
    return any(c["type"] == kind and c["status"] == "True" for c in status.get("conditions") or ())


def _claims(spec: Mapping[str, Any], *, pod_name: str = "") -> tuple[str, ...]:
    """The claims that a pod's volumes name; with the pod's name those of ephemeral volumes too."""
    names = []
    for entry in spec.get("volumes") or ():
        if "persistentVolumeClaim" in entry:
            names.append(entry["persistentVolumeClaim"]["claimName"])
        elif "ephemeral" in entry and pod_name:
            names.append(f"{pod_name}-{entry['name']}")
    return tuple(dict.fromkeys(names))


def _containers(
    specified: Iterable[Mapping[str, Any]] | None, statuses: Iterable[Mapping[str, Any]] | None
) -> tuple[Container, ...]:
    specs = {container["name"]: container for container in specified or ()}
    found = []
    for entry in statuses or ():
        state = entry.get("state") or {}
        of = specs.get(entry["name"], {})
        waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
        running = state.get("running") or {}
        if not state:
            terminated = (entry.get("lastState") or {}).get("terminated") or {}
        found.append(
            Container(
                name=entry["name"],
                image=of.get("image", ""),
                memory_limit=((of.get("resources") or {}).get("limits") or {}).get("memory", ""),
                waiting=waiting.get("reason", ""),
                terminated=terminated.get("reason") or ("Error" if terminated else ""),
                message=waiting.get("message") or terminated.get("message") or "",
                exit_code=terminated.get("exitCode"),
                started=_time(running.get("startedAt")),
                finished=_time(terminated.get("finishedAt")),
            )
        )
    return tuple(found)


def _identity(spec: Mapping[str, Any]) -> Identity:
    """The pod's security context, overlaid by that of the first container that mounts a claim."""
    context = spec.get("securityContext") or {}
    volumes = {e["name"] for e in spec.get("volumes") or () if "persistentVolumeClaim" in e or "ephemeral" in e}
    containers = spec.get("containers") or ()
    mounting = (
        c
        for c in containers
        if any(m["name"] in volumes for m in (*(c.get("volumeMounts") or ()), *(c.get("volumeDevices") or ())))
    )
    own: Mapping[str, Any] = next((c.get("securityContext") or {} for c in mounting), {})
    options = own.get("seLinuxOptions") or context.get("seLinuxOptions") or {}
    return Identity(
        user=own.get("runAsUser", context.get("runAsUser")),
        group=own.get("runAsGroup", context.get("runAsGroup")),
        fs_group=context.get("fsGroup"),
        supplemental_groups=tuple(context.get("supplementalGroups") or ()),
        fs_group_change_policy=context.get("fsGroupChangePolicy", ""),
        se_linux_level=options.get("level", ""),
    )


def _hosts(term: Mapping[str, Any]) -> list[str] | None:
    """The hosts that a node selector term names; None where it names none."""
    named = [
        expression["values"]
        for expression in [*(term.get("matchExpressions") or ()), *(term.get("matchFields") or ())]
        if expression["key"] in (HOSTNAME, "metadata.name") and expression["operator"] == "In"
    ]
    return [host for host in named[0] if all(host in values for values in named)] if named else None
