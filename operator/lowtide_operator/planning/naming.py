"""Names, labels, annotations and tags: the same for the same run, so that whatever was created is found again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from lowtide_operator.planning.actions import Purpose
from lowtide_operator.planning.observed import Uid

GROUP = "lowtide.dev"
API_VERSION = f"{GROUP}/v1alpha1"
FINALIZER = f"{GROUP}/finalizer"

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "lowtide"
RUN_LABEL = f"{GROUP}/run-uid"
RUN_NAME_LABEL = f"{GROUP}/run"
RUN_KIND_LABEL = f"{GROUP}/run-kind"
PURPOSE_LABEL = f"{GROUP}/purpose"
CLAIM_ANNOTATION = f"{GROUP}/claim"
ATTEMPT_LABEL = f"{GROUP}/attempt"
POLICY_LABEL = f"{GROUP}/policy"
COPY_LABEL = f"{GROUP}/copy"
GROUP_SNAPSHOT_LABEL = f"{GROUP}/group-snapshot"
SLOT_ANNOTATION = f"{GROUP}/slot"

HELD_LABEL = f"{GROUP}/held"
HOLD_ANNOTATION = f"{GROUP}/hold"
RELEASED_ANNOTATION = f"{GROUP}/released"
RUN_NAMESPACE_LABEL = f"{GROUP}/run-namespace"
"""On what is held outside the run's namespace."""
RESTORED_ANNOTATION = f"{GROUP}/restored-by"
RELEASE_OF_LABEL = f"{GROUP}/release-of"
RELEASE_OF_ANNOTATION = f"{GROUP}/release-of-run"
TAKEN_OVER_ANNOTATION = f"{GROUP}/release"

TAG_PREFIX = "lowtide:"

_MOVER_PREFIX = {
    Purpose.PREFLIGHT: "preflight",
    Purpose.STREAM: "stream",
    Purpose.BEFORE_HOOK: "before",
    Purpose.BACKUP: "backup",
    Purpose.LOOKUP: "lookup",
    Purpose.VERDICT: "verdict",
    Purpose.AFTER_HOOK: "after",
    Purpose.FORGET: "forget",
    Purpose.RESTORE: "restore",
}


def job_name(purpose: Purpose, run: Uid, claim: str, attempt: int, *, role: str = "") -> str:
    """`lowtide-<purpose>-<10 hexadecimal digits of hash(run, claim)>-<attempt>`: at most 40 characters.

    `role` tells apart Jobs of one purpose for one claim of one run, like the safety snapshot's backup from another.
    """
    digest = hashlib.sha256(f"{run}/{claim}/{role}".encode()).hexdigest()[:10]
    return f"lowtide-{_MOVER_PREFIX[purpose]}-{digest}-{attempt}"


def path_in_snapshot(claim: str, *, block: bool) -> str:
    """Where a volume stands in its snapshots, and in the container that reads or writes it: a folder, or for a block
    device, a file."""
    return f"/volumes/{claim}.img" if block else f"/volumes/{claim}"


def release_name(run: Uid, attempt: int) -> str:
    """The Job of a run's release pod, in the operator's namespace: `lowtide-release-<10 digits>-<attempt>`."""
    return f"lowtide-release-{hashlib.sha256(run.encode()).hexdigest()[:10]}-{attempt}"


def job_labels(purpose: Purpose, run: Uid, run_kind: str, policy: str, attempt: int) -> dict[str, str]:
    """The labels of a Job and its pods; RUN_LABEL is what finds them."""
    labels = {
        MANAGED_BY_LABEL: MANAGED_BY,
        RUN_LABEL: run,
        RUN_KIND_LABEL: run_kind,
        PURPOSE_LABEL: purpose.value,
        ATTEMPT_LABEL: str(attempt),
    }
    if policy:
        labels[POLICY_LABEL] = policy
    return labels


def copy_name(run: Uid, claim: str) -> str:
    """`lowtide-copy-<10 hexadecimal digits of hash(run, claim)>`: of the VolumeSnapshot (but for a member of a group)
    and of the claim alike."""
    digest = hashlib.sha256(f"{run}/{claim}/copy".encode()).hexdigest()[:10]
    return f"lowtide-copy-{digest}"


def group_snapshot_name(run: Uid) -> str:
    """The VolumeGroupSnapshot of a run: `lowtide-group-<10 hexadecimal digits>`."""
    return f"lowtide-group-{hashlib.sha256(f'{run}/group'.encode()).hexdigest()[:10]}"


def copy_labels(run: Uid, policy: str) -> dict[str, str]:
    """The labels of a copy: COPY_LABEL says that it is one, so that nobody backs it up and the operator may delete it;
    RUN_LABEL whose."""
    return {MANAGED_BY_LABEL: MANAGED_BY, COPY_LABEL: "true", RUN_LABEL: run, POLICY_LABEL: policy}


def is_ours(labels: Mapping[str, str]) -> bool:
    """Whether a Job or pod with these labels is a mover of Lowtide."""
    return RUN_LABEL in labels and labels.get(MANAGED_BY_LABEL) == MANAGED_BY


def run_tags(
    cluster: str, namespace: str, policy: str, run: Uid, claim: str = "", *, stream: str = ""
) -> tuple[str, ...]:
    """The reserved tags of what a run stores; with `claim` or `stream`, those of that member."""
    tags = [f"cluster={cluster}", f"namespace={namespace}", f"policy={policy}", f"run={run}"]
    if claim:
        tags.append(f"claim={claim}")
    if stream:
        tags.append(f"stream={stream}")
    return tuple(f"{TAG_PREFIX}{tag}" for tag in tags)


def parent_tags(cluster: str, namespace: str, policy: str, claim: str) -> tuple[str, ...]:
    """The tags that a parent of a member must carry: the same claim of the same policy in the same cluster."""
    tags = (f"cluster={cluster}", f"namespace={namespace}", f"policy={policy}", f"claim={claim}")
    return tuple(f"{TAG_PREFIX}{tag}" for tag in tags)


def released_mark(run: Uid, attempt: int) -> str:
    """The value of RELEASED_ANNOTATION: this run has released this workload, in this attempt, and never holds it
    again.
    """
    return f"{run}.{attempt}"
