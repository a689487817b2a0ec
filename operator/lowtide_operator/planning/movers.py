"""The Jobs of a run, described: what is the same for all of them, and how long each may take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from lowtide_operator.api import SnapshotSpec, SnapshotStatus
from lowtide_operator.api.mover import CopiedToleration, Mover, MoverSecurityContext
from lowtide_operator.api.repository import Repository
from lowtide_operator.api.snapshot import Progress, Resolved, VolumeStatus
from lowtide_operator.planning.actions import MoverJob, Placement, Purpose
from lowtide_operator.planning.jobs import dead_holders
from lowtide_operator.planning.naming import is_ours, job_labels
from lowtide_operator.planning.observed import Workload, World
from lowtide_operator.planning.observed_pods import Identity, MoverProgress, Pod
from lowtide_operator.planning.run import Run, S

ONE_NODE_MODES = frozenset({"ReadWriteOnce", "ReadWriteOncePod"})

LOST_NODE_TAINTS = frozenset({"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"})

LONGEST_MARGIN = timedelta(seconds=75)
"""A mover is told to stop this long before the deadline: its grace of a minute, and what the API takes."""

SHORTEST_MOVER = timedelta(seconds=5)
"""A mover that has less time than this is not started."""


BACKSTOP = timedelta(minutes=1)
"""A Job's own deadline comes so much after mover.deadlines.whole: the operator tells what the mover said last, the Job
can't, and ends it only where no operator runs."""

PROGRESS_EVERY = timedelta(seconds=15)
"""How often a run's status follows its movers: each write of it wakes the run."""


def describe(
    run: Run[S],
    purpose: Purpose,
    name: str,
    attempt: int,
    *,
    repository: Repository,
    repository_id: str | None,
    mover: Mover,
    policy: str,
    until: datetime | None = None,
) -> MoverJob:
    """A Job of the run; `until` is when its pods must be ending at the latest."""
    whole = mover.deadlines.whole + BACKSTOP
    time = whole if until is None else min(whole, until - run.now)
    return MoverJob(
        namespace=run.meta.namespace,
        name=name,
        purpose=purpose,
        owner=run.ref,
        labels=job_labels(purpose, run.meta.uid, run.kind, policy, attempt),
        repository=repository,
        repository_id=repository_id or "",
        mover=mover,
        active_deadline=max(1, int(time.total_seconds())),
        elevated_allowed=run.world.elevated_allowed,
        dead_holders=dead_holders(run),
    )


def describe_for(
    run: Run[SnapshotStatus],
    spec: SnapshotSpec,
    resolved: Resolved,
    purpose: Purpose,
    name: str,
    attempt: int,
    until: datetime | None = None,
) -> MoverJob:
    """A Job of a Snapshot's run, as `describe` has it, by what the run resolved at its start."""
    return describe(
        run,
        purpose,
        name,
        attempt,
        repository=resolved.repository,
        repository_id=resolved.repository_id,
        mover=resolved.mover,
        policy=spec.policy_name,
        until=until,
    )


def progress_of(volumes: Iterable[VolumeStatus], claim: str, told: MoverProgress) -> Progress:
    """How far the mover of `claim` is, for its status."""
    return followed(next((volume.progress for volume in volumes if volume.claim == claim), None), told)


def followed(known: Progress | None, told: MoverProgress) -> Progress:
    """How far a mover is, for a status: what it tells, or what is known while that is young."""
    if known is not None and known.updated_at is not None and told.time < known.updated_at + PROGRESS_EVERY:
        return known
    time = told.time.replace(microsecond=0)
    if told.files is None or told.bytes is None:
        return (known or Progress()).model_copy(update={"updated_at": time})
    return Progress(
        files=told.files, bytes=told.bytes, total_bytes=told.total_bytes, percent=told.percent, updated_at=time
    )


def movers_must_end(run: Run[S], max_downtime: timedelta) -> datetime | None:
    """When movers that read held volumes must be told to stop, so that they are gone before maxDowntime is over."""
    ledger = run.status.quiesce
    if ledger is None:
        return None
    return ledger.deadline - min(LONGEST_MARGIN, max_downtime / 4)


def one_at_a_time(repository: Repository, world: World) -> bool:
    """Whether the repository is on a claim that only one node can mount, so that its movers run one after the
    other."""
    claim = next((claim for claim in world.claims if claim.meta.name == repository.claim_name), None)
    return claim is not None and bool(claim.access_modes) and ONE_NODE_MODES.issuperset(claim.access_modes)


def placement(claim: str, world: World) -> Placement:
    """Where a mover of `claim` must run: where another pod holds it, if only one node can mount it."""
    found = next((known for known in world.claims if known.meta.name == claim), None)
    nodes = tuple(
        sorted(
            {
                pod.node
                for pod in world.pods
                if claim in pod.claims and pod.node and not pod.finished and not is_ours(pod.meta.labels)
            }
        )
    )
    if found is not None and found.access_modes and ONE_NODE_MODES.issuperset(found.access_modes):
        return Placement(required_nodes=nodes)
    return Placement(preferred_nodes=nodes)


def spread(place: Placement, movers: int) -> Placement:
    """The same for one of so many movers that may run at once: apart from the others, where nothing says where."""
    alone = movers < 2 or place.required_nodes or place.preferred_nodes
    return place if alone else replace(place, spread=True)


def consumer_identity(claim: str, world: World) -> MoverSecurityContext:
    """The user, groups and SELinux level of whoever uses the claim."""
    user = _consumer(claim, world)
    return _as_context(user.identity) if user is not None and user.identity is not None else MoverSecurityContext()


def consumer_tolerations(claim: str, world: World) -> tuple[CopiedToleration, ...]:
    """The taints that whoever uses the claim bears: its volume may be on a node that nothing else may run on.

    What Kubernetes gives to every pod, for a node that is lost, is not among them.
    """
    user = _consumer(claim, world)
    return tuple(
        CopiedToleration.model_validate(toleration)
        for toleration in (user.tolerations if user is not None else ())
        if toleration.get("key") not in LOST_NODE_TAINTS
    )


def _consumer(claim: str, world: World) -> Pod | Workload | None:
    """Whoever uses the claim: a running pod, else the template of a workload that names it."""
    pods = [pod for pod in world.pods if claim in pod.claims and not is_ours(pod.meta.labels)]
    for pod in sorted(pods, key=lambda pod: (pod.finished, pod.meta.created, pod.meta.name)):
        return pod
    for workload in world.workloads:
        named = claim in workload.claims or any(
            claim.startswith(f"{template}-{workload.meta.name}-") for template in workload.claim_templates
        )
        if named and workload.identity is not None:
            return workload
    return None


def as_identity(context: MoverSecurityContext) -> Identity:
    """The same, as a MoverJob carries it."""
    return Identity(
        user=context.run_as_user,
        group=context.run_as_group,
        fs_group=context.fs_group,
        supplemental_groups=context.supplemental_groups or (),
        se_linux_level=context.se_linux_level or "",
    )


def _as_context(identity: Identity) -> MoverSecurityContext:
    return MoverSecurityContext(
        run_as_user=identity.user,
        run_as_group=identity.group,
        fs_group=identity.fs_group,
        supplemental_groups=identity.supplemental_groups or None,
        se_linux_level=identity.se_linux_level or None,
    )
