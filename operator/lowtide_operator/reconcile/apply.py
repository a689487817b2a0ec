"""Executes a plan's actions, one after the other, and stops at the first that fails; but one workload that can't be put
back keeps no other down.

What an action promises is said at its class in planning/actions.py. Conflict here always means: what the plan rests on
is no longer so, observe again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, assert_never

from lowtide_operator.api.values import format_time
from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import AlreadyExists, ClusterError, Conflict, NotFound
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.cluster.protocol import Cluster, Manifest
from lowtide_operator.manifests import copies
from lowtide_operator.planning import naming
from lowtide_operator.planning.actions import (
    Action,
    Announce,
    CheckUnchanged,
    CreateClaim,
    CreateCopy,
    CreateGroupSnapshot,
    CreateJob,
    CreateRelease,
    CreateSnapshot,
    CreateVolumeSnapshot,
    DeleteCopy,
    DeleteJob,
    DeletePod,
    HookJob,
    MoverJob,
    PatchWorkload,
    Ref,
    ReleaseJob,
    SetFinalizers,
    StampClaim,
    TakeOver,
    WriteStatus,
    is_release,
)
from lowtide_operator.reconcile import events

logger = logging.getLogger(__name__)


class NameTaken(ClusterError):
    """An object that is not ours has the name that one of ours would have."""

    reason = "NameTaken"


class Applier:
    """Executes plans, one object's at a time. `build_job` makes the manifest of the Job of a mover or a hook,
    `build_release` that of a release pod's."""

    def __init__(
        self,
        cluster: Cluster,
        build_job: Callable[[MoverJob | HookJob], Manifest],
        build_release: Callable[[ReleaseJob], Manifest],
    ) -> None:
        self._cluster = cluster
        self._build_job = build_job
        self._build_release = build_release

    async def apply(self, actions: tuple[Action, ...], body: Manifest | None, now: datetime) -> int:
        """Execute `actions` in order, and answer how many of them wrote something.

        `body` is the object that the plan is about, as it was observed: a status equal to its own is not written. An
        Announce is posted only if all before it went well. Raises ClusterError at the first action that fails; where
        that is a release, once those behind it were made.
        """
        versions: dict[tuple[str, str], str] = {}
        written = 0
        failed: ClusterError | None = None
        for action in actions:
            if failed is not None and not is_release(action):
                continue
            try:
                written += await self._do(action, body, now, versions)
            except ClusterError as error:
                if not is_release(action):
                    raise
                failed = failed or error
        if failed is not None:
            raise failed
        return written

    async def _do(
        self, action: Action, body: Manifest | None, now: datetime, versions: dict[tuple[str, str], str]
    ) -> bool:
        """Execute one action; whether it wrote. `versions`: from what the plan was made from to what we made of it."""
        match action:
            case WriteStatus():
                return await self._write_status(action, body, versions)
            case CheckUnchanged(ref, version):
                found = await self._cluster.get(_kind(ref), ref.namespace, ref.name)
                expected = versions.get((ref.uid, version), version)
                if found is None or (found["metadata"]["uid"], found["metadata"]["resourceVersion"]) != (
                    ref.uid,
                    expected,
                ):
                    raise Conflict(f"{ref.kind} {ref.namespace}/{ref.name} changed since it was read.")
                return False
            case SetFinalizers(ref, version, finalizers):
                try:
                    await self._patch(ref, version, {"metadata": {"finalizers": list(finalizers)}}, versions)
                except NotFound:
                    return False
                return True
            case CreateJob(job):
                return await self._create(kinds.JOB, self._build_job(job), job.labels)
            case CreateRelease(job):
                return await self._create(kinds.JOB, self._build_release(job))
            case TakeOver(ref, version, at):
                annotations = {naming.TAKEN_OVER_ANNOTATION: format_time(at)}
                await self._patch(ref, version, {"metadata": {"annotations": annotations}}, versions)
                return True
            case DeleteJob(ref):
                return await self._delete(kinds.JOB, ref)
            case DeletePod(ref):
                return await self._delete(kinds.POD, ref)
            case PatchWorkload():
                return await self._patch_workload(action, versions)
            case CreateSnapshot():
                return await self._create(kinds.SNAPSHOT, _snapshot(action))
            case CreateClaim():
                return await self._create(kinds.CLAIM, _claim(action))
            case CreateVolumeSnapshot():
                return await self._create(kinds.VOLUME_SNAPSHOT, copies.volume_snapshot(action), action.labels)
            case CreateGroupSnapshot():
                return await self._create(kinds.GROUP_SNAPSHOT, copies.group_snapshot(action), action.labels)
            case CreateCopy():
                return await self._create(kinds.CLAIM, copies.copy_claim(action), action.labels)
            case DeleteCopy(ref):
                return await self._delete(_kind(ref), ref)
            case StampClaim(ref, version, annotations, labels):
                stamped = {"annotations": dict(annotations), "labels": dict(labels)}
                await self._patch(ref, version, {"metadata": {k: v for k, v in stamped.items() if v}}, versions)
                return True
            case Announce():
                await events.post(self._cluster, action, now)
                return True
        assert_never(action)

    async def _write_status(
        self, action: WriteStatus, body: Manifest | None, versions: dict[tuple[str, str], str]
    ) -> bool:
        observed = (body or {}).get("status") or {}
        wanted = dict(action.status)
        if observed == wanted:
            return False
        patch = {"status": difference(observed, wanted)}
        await self._patch(action.ref, action.resource_version, patch, versions, subresource="status")
        return True

    async def _patch_workload(self, action: PatchWorkload, versions: dict[tuple[str, str], str]) -> bool:
        spec: dict[str, Any] = {}
        if action.replicas is not None:
            spec["replicas"] = action.replicas
        if action.suspend is not None:
            spec["suspend"] = action.suspend
        patch: dict[str, Any] = {"metadata": {"labels": dict(action.labels), "annotations": dict(action.annotations)}}
        if spec:
            patch["spec"] = spec
        try:
            await self._patch(action.ref, action.resource_version, patch, versions)
        except NotFound:
            if action.release:
                return False
            raise Conflict(
                f"{action.ref.kind} {action.ref.namespace}/{action.ref.name} was deleted meanwhile."
            ) from None
        return True

    async def _patch(
        self,
        ref: Ref,
        version: str,
        patch: Mapping[str, Any],
        versions: dict[tuple[str, str], str],
        *,
        subresource: str = "",
    ) -> None:
        """A merge patch of that very object as it was read, or as an earlier action of this plan left it."""
        precondition = {"uid": ref.uid, "resourceVersion": versions.get((ref.uid, version), version)}
        guarded = {**patch, "metadata": {**patch.get("metadata", {}), **precondition}}
        after = await self._cluster.merge_patch(_kind(ref), ref.namespace, ref.name, guarded, subresource=subresource)
        versions[ref.uid, version] = after["metadata"]["resourceVersion"]

    async def _create(self, kind: Kind, body: Manifest, labels: Mapping[str, str] | None = None) -> bool:
        """Create, or find it there. With `labels`, one that is there must be of the same run, else NameTaken."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        try:
            await self._cluster.create(kind, namespace, body)
        except AlreadyExists:
            if labels is not None:
                there = await self._cluster.get(kind, namespace, name)
                run = ((there or {}).get("metadata", {}).get("labels") or {}).get(naming.RUN_LABEL)
                if there is not None and run != labels[naming.RUN_LABEL]:
                    raise NameTaken(
                        f"A {kind} {namespace}/{name} is there that Lowtide did not make for this run.",
                        hint=f"Delete it: kubectl -n {namespace} delete {kind.plural[:-1]} {name}",
                    ) from None
            return False
        return True

    async def _delete(self, kind: Kind, ref: Ref) -> bool:
        try:
            await self._cluster.delete(kind, ref.namespace, ref.name, uid=ref.uid)
        except Conflict:
            return False
        return True


def _snapshot(action: CreateSnapshot) -> Manifest:
    return {
        "apiVersion": kinds.SNAPSHOT.api_version,
        "kind": kinds.SNAPSHOT.kind,
        "metadata": {
            "namespace": action.namespace,
            "name": action.name,
            "labels": dict(action.labels),
            "annotations": dict(action.annotations),
        },
        "spec": dict(action.spec),
    }


def _claim(action: CreateClaim) -> Manifest:
    spec: dict[str, Any] = {
        "accessModes": list(action.access_modes),
        "resources": {"requests": {"storage": action.size}},
    }
    if action.storage_class:
        spec["storageClassName"] = action.storage_class
    if action.block:
        spec["volumeMode"] = "Block"
    return {
        "apiVersion": kinds.CLAIM.api_version,
        "kind": kinds.CLAIM.kind,
        "metadata": {
            "namespace": action.namespace,
            "name": action.name,
            "labels": dict(action.labels),
            "annotations": dict(action.annotations),
        },
        "spec": spec,
    }


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that makes `after` of `before`: what is equal is left out, what is gone is null."""
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            inner = difference(old, value)
            if inner or not value:
                patch[name] = inner
        elif name not in before or old != value:
            patch[name] = value
    return patch


def _kind(ref: Ref) -> Kind:
    """Where the object is served. Planners name no kind that isn't known here."""
    kind = kinds.find_kind(ref.api_version, ref.kind)
    if kind is None:
        raise LookupError(f"{ref.api_version} {ref.kind} is no kind that this operator knows")
    return kind
