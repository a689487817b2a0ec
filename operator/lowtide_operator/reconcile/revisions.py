"""What a workload tells of the revisions of its pods: for parse, which reads the rest of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lowtide_operator.cluster.protocol import Manifest
from lowtide_operator.planning.updates import PAUSED

TEMPLATE_HASH = "pod-template-hash"
STUCK = "ProgressDeadlineExceeded"


def template(body: Manifest) -> Mapping[str, Any]:
    """The pod template of a Deployment or ReplicaSet, without the label that a Deployment's controller adds to it."""
    if body["kind"] not in ("Deployment", "ReplicaSet"):
        return {}
    whole: Mapping[str, Any] = (body.get("spec") or {}).get("template") or {}
    about = whole.get("metadata") or {}
    labels = {name: value for name, value in (about.get("labels") or {}).items() if name != TEMPLATE_HASH}
    return {**whole, "metadata": {**about, "labels": labels}}


def is_half_updated(body: Manifest) -> bool:
    """Whether a StatefulSet has pods of an older revision, or may have: its controller has not seen its spec yet."""
    status = body.get("status") or {}
    current, newest = status.get("currentRevision"), status.get("updateRevision")
    old = current != newest and status.get("updatedReplicas", 0) < status.get("replicas", 0)
    return body["kind"] == "StatefulSet" and (old or not _is_seen(body))


def update_kept_by(body: Manifest) -> str:
    """What keeps the workload's update from going on by itself, once its controller has seen the spec; "" if nothing
    does."""
    kind, spec, status = body["kind"], body.get("spec") or {}, body.get("status") or {}
    if not _is_seen(body):
        return ""
    if kind == "StatefulSet":
        strategy = spec.get("updateStrategy") or {}
        parted = bool((strategy.get("rollingUpdate") or {}).get("partition"))
        return "OnDelete" if strategy.get("type") == "OnDelete" else "partition" if parted else ""
    if kind == "Deployment" and spec.get("paused"):
        return PAUSED
    stuck = any(condition.get("reason") == STUCK for condition in status.get("conditions") or ())
    return STUCK if kind == "Deployment" and stuck else ""


def _is_seen(body: Manifest) -> bool:
    wanted: int = body["metadata"].get("generation", 0)
    seen: int = (body.get("status") or {}).get("observedGeneration", 0)
    return seen >= wanted
