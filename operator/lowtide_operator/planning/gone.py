"""Whether volumes are unmounted: what was measured to tell the truth, and nothing else.

A pod object that is gone after a graceful deletion means that its volumes are unpublished. A final phase means
nothing: the unmount comes after it. A pod that was deleted by force leaves its mount behind; where the driver
attaches, the VolumeAttachment still tells.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from lowtide_operator.planning.naming import is_ours
from lowtide_operator.planning.observed import World
from lowtide_operator.planning.observed_pods import Pod

FINISHED_FOR = timedelta(seconds=60)
"""How long a finished pod of someone else must have ended before its volumes count as unmounted."""


def in_the_way(claims: frozenset[str], world: World, now: datetime) -> tuple[str, ...]:
    """What still has one of `claims` mounted or attached, or may have: each as words for a person. Empty means
    gone."""
    pods = pods_in_the_way(claims, world, now)
    volumes = {
        claim.volume: claim.meta.name for claim in world.claims if claim.meta.name in claims and claim.volume != ""
    }
    attaching = {volume.name for volume in world.volumes if volume.attach_required}
    attachments = tuple(
        f"the attachment of {volumes[attachment.volume]} to node {attachment.node}"
        for attachment in world.attachments
        if attachment.volume in volumes and attachment.volume in attaching
    )
    return (*pods, *sorted(attachments))


def pods_in_the_way(claims: frozenset[str], world: World, now: datetime) -> tuple[str, ...]:
    """The same for pods alone: while our own movers come and go, an attachment says nothing about others."""
    return tuple(sorted(f"pod {pod.meta.name}" for pod in world.pods if _may_mount(pod, claims, world, now)))


def staying(claims: frozenset[str], world: World, now: datetime) -> tuple[Pod, ...]:
    """The pods in the way that waiting alone does not take out of it: they run, or are left behind."""
    return tuple(
        pod
        for pod in world.pods
        if pod.meta.deleted is None
        and (not pod.finished or _is_unclear(pod, world))
        and _may_mount(pod, claims, world, now)
    )


def left_behind(claims: frozenset[str], world: World, now: datetime) -> tuple[Pod, ...]:
    """Those of them that are finished: nobody recorded their end, or their node is lost. A kubelet that starts again
    may reject a pod that had run, so one without containers proves nothing."""
    return tuple(pod for pod in staying(claims, world, now) if pod.finished)


def came_back(claims: frozenset[str], world: World, since: datetime, now: datetime) -> tuple[str, ...]:
    """The pods and Jobs that used one of `claims` after `since`, when all were gone: each as words for a person."""
    pods = tuple(
        f"pod {pod.meta.name}"
        for pod in world.pods
        if not is_ours(pod.meta.labels)
        and claims.intersection(pod.claims)
        and (not pod.finished or pod.meta.created > since or pod.ended is None or pod.ended > since)
        and not (pod.finished and pod.node == "")
    )
    jobs = tuple(
        f"Job {job.meta.name}"
        for job in world.workloads
        if job.kind == "Job"
        and not is_ours(job.meta.labels)
        and claims.intersection(job.claims)
        and job.started is not None
        and job.started > since
        and not job.suspended
    )
    return (*sorted(pods), *sorted(jobs))


def _may_mount(pod: Pod, claims: frozenset[str], world: World, now: datetime) -> bool:
    if is_ours(pod.meta.labels) or not claims.intersection(pod.claims):
        return False
    if not pod.finished:
        return True
    if pod.node == "":
        return False
    return _is_unclear(pod, world) or (pod.ended is not None and now - pod.ended <= FINISHED_FOR)


def _is_unclear(pod: Pod, world: World) -> bool:
    """Whether nobody can tell since when the finished pod's volumes are unmounted."""
    return pod.ended is None or not any(node.name == pod.node and node.ready for node in world.nodes)
