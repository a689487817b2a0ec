"""Whom a mover runs as, and what it may do: no more than its step needs.

A mover takes the user and groups of the pod that uses the volume, so that it reads what the application reads. It never
makes the kubelet change the ownership of a volume that it backs up: the group that the consumer's pod has as fsGroup is
only a further group of the mover. Capabilities count for root alone (Kubernetes has no ambient ones), so an elevated
mover is root, with the listed capabilities and no others.
"""

from __future__ import annotations

from typing import Any

from lowtide_operator.api.mover import Privilege
from lowtide_operator.planning.actions import MoverJob, Purpose
from lowtide_operator.planning.observed_pods import Identity

OWN_ID = 65532
"""The user and group of movers that touch no volume of an application, and the group that all movers share on a
repository that lies on a claim."""

CAPABILITIES = {
    Purpose.BACKUP: ["DAC_READ_SEARCH"],
    Purpose.RESTORE: ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETFCAP"],
}
"""What privilege Elevated adds. FSETID: without it the kernel drops the setgid bit of a folder whose group the mover
is not in, which is every folder of a volume with an fsGroup."""


def elevated(job: MoverJob) -> bool:
    """Whether this mover gets capabilities: asked for, allowed in the namespace, and of use to what it does."""
    return job.mover.privilege is Privilege.ELEVATED and job.elevated_allowed and job.purpose in CAPABILITIES


def pod_context(job: MoverJob) -> dict[str, Any]:
    """The pod's securityContext."""
    wanted = job.mover.security_context
    identity = (job.identity or Identity()) if job.claim else Identity()
    # No user is known: of files, others may read most; a device belongs to root, as whom its consumer's image runs.
    user = _first(wanted.run_as_user if job.claim else None, identity.user, 0 if job.block else OWN_ID)
    if elevated(job):
        user = 0
    group = _first(wanted.run_as_group if job.claim else None, identity.group, 0 if user == 0 else OWN_ID)
    further = identity.supplemental_groups if wanted.supplemental_groups is None else wanted.supplemental_groups
    groups = set(further if job.claim else ())
    volume_group = _first_or_none(wanted.fs_group, identity.fs_group) if job.claim else None

    context: dict[str, Any] = {
        "runAsUser": user,
        "runAsGroup": group,
        "runAsNonRoot": user != 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    fs_group: int | None = None
    if job.purpose is Purpose.RESTORE and not job.block:
        # A new volume's root belongs to root: a mover of another user needs a group to write into it.
        fs_group = _first_or_none(volume_group, group if job.fresh and user != 0 else None)
    elif volume_group is not None:
        groups.add(volume_group)
    if job.repository.claim_name is not None:
        if job.claim:
            groups.add(OWN_ID)
        else:
            fs_group = OWN_ID
    if fs_group is not None:
        context["fsGroup"] = fs_group
        context["fsGroupChangePolicy"] = "OnRootMismatch"
    if groups:
        context["supplementalGroups"] = sorted(groups)
    if job.claim and (level := wanted.se_linux_level or identity.se_linux_level):
        context["seLinuxOptions"] = {"level": level}
    return context


def container_context(job: MoverJob) -> dict[str, Any]:
    """The container's securityContext."""
    return confined(*(CAPABILITIES[job.purpose] if elevated(job) else ()))


def own_pod_context() -> dict[str, Any]:
    """The securityContext of a pod that touches no volume but its own scratch."""
    return {
        "runAsNonRoot": True,
        "runAsUser": OWN_ID,
        "runAsGroup": OWN_ID,
        "fsGroup": OWN_ID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def confined(*capabilities: str) -> dict[str, Any]:
    """The securityContext of a container of ours, which has these capabilities alone."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], **({"add": list(capabilities)} if capabilities else {})},
    }


def _first_or_none(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _first(first: int | None, second: int | None, last: int) -> int:
    found = _first_or_none(first, second)
    return last if found is None else found
