"""Decide whether a Snapshot may start a run, and copy what the run goes by: later steps read nothing else of the
policy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from lowtide_operator.api import BackupPolicySpec, SnapshotSpec, SnapshotStatus
from lowtide_operator.api.policy import Capture, CaptureMethod
from lowtide_operator.api.quiesce import Quiesce, QuiesceStrategy
from lowtide_operator.api.selectors import LabelSelector, SelectorOperator, SelectorRequirement
from lowtide_operator.api.snapshot import Origin, Resolved, ResolvedCopy, ResolvedVolume, VolumeMode
from lowtide_operator.api.values import parse_time
from lowtide_operator.planning.allowed import refusal
from lowtide_operator.planning.copyable import is_of_one_driver, resolve_copy
from lowtide_operator.planning.copyrecords import source_of
from lowtide_operator.planning.gone import pods_in_the_way
from lowtide_operator.planning.hooks import resolve_hooks
from lowtide_operator.planning.movers import consumer_identity, consumer_tolerations
from lowtide_operator.planning.naming import COPY_LABEL, SLOT_ANNOTATION
from lowtide_operator.planning.observed import Claim, Meta, PolicyObject, World
from lowtide_operator.planning.ordering import stops_something
from lowtide_operator.planning.run import Run
from lowtide_operator.planning.streams import resolve_streams

POLICY_WAIT = timedelta(minutes=5)
"""How long a Snapshot made by hand waits for its policy to appear: they may come from one file."""

MAX_CLAIMS = 64


def slot_of(meta: Meta) -> datetime | None:
    """The slot that a Snapshot was made for: its annotation, else the end of its name; None where neither says
    one."""
    try:
        return parse_time(meta.annotations[SLOT_ANNOTATION])
    except (KeyError, ValueError):
        pass
    match = re.search(r"-(\d{12})$", meta.name)
    try:
        return datetime.strptime(match[1], "%Y%m%d%H%M").replace(tzinfo=UTC) if match else None
    except ValueError:
        return None


def resolve(run: Run[SnapshotStatus], spec: SnapshotSpec) -> bool:
    """Start the run by writing what it goes by; whether that was done before."""
    if run.status.resolved is not None:
        return True
    policy = next((found for found in run.world.policies if found.meta.name == spec.policy_name), None)
    if policy is None or policy.meta.deleted is not None:
        _without_policy(run, spec)
        return False
    if policy.spec is None:
        run.fail("PolicyInvalid", f"BackupPolicy {spec.policy_name} can't be read: {policy.invalid}")
        return False
    start_by = None
    if spec.origin is Origin.SCHEDULE:
        slot = slot_of(run.meta)
        if slot is None:
            run.fail("SlotUnknown", "It says that a schedule made it, and not for which slot: it is never started.")
            return False
        start_by = slot + policy.spec.starting_deadline
        if run.now > start_by:
            run.fail(
                "DeadlinePassed",
                "Its slot's startingDeadline is over, it starts no run: take one by hand, or wait for the next slot.",
            )
            return False
    claims = select_claims(run, policy.spec)
    if run.failing:
        return False
    capture = policy.spec.capture or Capture(method=CaptureMethod.DIRECT)
    _check_claims(run, policy.spec, capture, claims)
    refused = refusal(
        policy.spec,
        run.meta.namespace,
        images=run.world.streams_allowed,
        execution=run.world.exec_allowed,
        elevated=run.world.elevated_allowed,
    )
    if refused is not None:
        run.fail(*refused)
    streams = resolve_streams(run, policy.spec.streams)
    hooks = resolve_hooks(run, policy.spec.hooks)
    if capture.method is CaptureMethod.GROUP_SNAPSHOT and not run.failing:
        is_of_one_driver(run, claims)
    copies: dict[str, ResolvedCopy | None] = {}
    for claim in claims if capture.method is not CaptureMethod.DIRECT else ():
        if not run.failing:
            copies[claim.meta.name] = resolve_copy(run, capture, claim)
    if run.failing:
        return False
    resolved = _resolved(policy, policy.spec, capture, claims, copies, run.world, start_by)
    resolved = resolved.model_copy(update={"streams": streams, "hooks": hooks})
    run.update(start_time=run.now, attempt=1, resolved=resolved)
    run.waiting("Preflight", "The repository is being opened before anything is stopped.")
    run.look_again(1)
    return False


def same_claims(run: Run[SnapshotStatus], resolved: Resolved) -> bool:
    """Whether the claims are those that the run began with, and none goes as soon as nothing uses it. Fails the run
    where not: asked as long as nothing is stopped."""
    for volume in resolved.volumes:
        claim = source_of(run, volume)
        if claim is not None and claim.meta.deleted is not None:
            _refuse_deleted(run, claim)
    return not run.failing


def select_claims(run: Run[SnapshotStatus], spec: BackupPolicySpec) -> tuple[Claim, ...]:
    """The claims of the group, by name: none where the policy has only streams. Fails the run where the selection is
    empty, or a claim that is named does not exist."""
    if spec.volumes is None:
        return ()
    present = {claim.meta.name: claim for claim in run.world.claims if COPY_LABEL not in claim.meta.labels}
    if spec.volumes.claims is not None:
        missing = [name for name in spec.volumes.claims if name not in present]
        if missing:
            run.fail(
                "ClaimMissing",
                f"There is no PersistentVolumeClaim {', '.join(missing)} in this namespace: correct volumes.claims.",
            )
        return tuple(present[name] for name in sorted(spec.volumes.claims) if name in present)
    selector = spec.volumes.selector
    found = tuple(
        claim
        for name, claim in sorted(present.items())
        if selector is not None
        and name not in spec.volumes.exclude
        and not claim.pod
        and matches(selector, claim.meta.labels)
    )
    if not found:
        run.fail(
            "NoClaims",
            "The policy's selector finds no PersistentVolumeClaim (one that goes with its pod does not count): correct "
            "volumes.selector.",
        )
    if len(found) > MAX_CLAIMS:
        run.fail("TooManyClaims", f"The selector finds {len(found)} claims, and a group has at most {MAX_CLAIMS}.")
    return found


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether the labels meet everything that the selector says."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _meets(requirement, labels) for requirement in selector.match_expressions
    )


def _meets(requirement: SelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case SelectorOperator.IN:
            return value in requirement.values
        case SelectorOperator.NOT_IN:
            return value not in requirement.values
        case SelectorOperator.EXISTS:
            return value is not None
        case SelectorOperator.DOES_NOT_EXIST:
            return value is None


def _without_policy(run: Run[SnapshotStatus], spec: SnapshotSpec) -> None:
    text = f"There is no BackupPolicy {spec.policy_name} in this namespace."
    if spec.origin is Origin.MANUAL and run.now < run.meta.created + POLICY_WAIT:
        run.waiting("PolicyNotFound", f"{text} It is waited for.")
        run.look_again_at(run.meta.created + POLICY_WAIT)
        run.look_again(5)
    else:
        run.fail("PolicyNotFound", f"{text} Make it, then another Snapshot.")


def _check_claims(
    run: Run[SnapshotStatus], spec: BackupPolicySpec, capture: Capture, claims: tuple[Claim, ...]
) -> None:
    for claim in claims:
        name = claim.meta.name
        if claim.meta.deleted is not None:
            _refuse_deleted(run, claim)
        elif claim.phase != "Bound":
            run.fail(
                "ClaimUnbound",
                f"PersistentVolumeClaim {name} is {claim.phase or 'not bound'}: it holds no data yet, and a mover "
                f"never binds one. Start the workload that uses it, or take it out of the group.",
            )
        elif claim.pod and stops_something(spec.quiesce.strategy):
            run.fail(
                "ClaimsWouldBeDeleted",
                f"PersistentVolumeClaim {name} goes with pod {claim.pod} (a generic ephemeral volume), so stopping "
                f"what uses it would delete it: take it out of volumes.claims, or set quiesce.strategy to None.",
            )
        elif name == spec.repository.claim_name:
            run.fail("RepositoryInGroup", f"PersistentVolumeClaim {name} holds the repository: exclude it.")
        elif (
            capture.method is CaptureMethod.DIRECT
            and spec.quiesce.strategy is QuiesceStrategy.NONE
            and "ReadWriteOncePod" in claim.access_modes
        ):
            users = pods_in_the_way(frozenset({name}), run.world, run.now)
            if users:
                run.fail(
                    "ClaimInUse",
                    f"PersistentVolumeClaim {name} is ReadWriteOncePod and {users[0]} has it: only quiesce.strategy "
                    f"ScaleDown, or capture by copies, lets a mover read it.",
                )


def _refuse_deleted(run: Run[SnapshotStatus], claim: Claim) -> None:
    run.fail("ClaimDeleting", f"PersistentVolumeClaim {claim.meta.name} is being deleted: take it out of the group.")


def _resolved(
    policy: PolicyObject,
    spec: BackupPolicySpec,
    capture: Capture,
    claims: tuple[Claim, ...],
    copies: Mapping[str, ResolvedCopy | None],
    world: World,
    start_by: datetime | None,
) -> Resolved:
    return Resolved(
        policy_uid=policy.meta.uid,
        policy_generation=policy.meta.generation,
        start_by=start_by,
        repository=spec.repository,
        known_repository_id=policy.status.repository_id,
        volumes=tuple(
            ResolvedVolume(
                claim=claim.meta.name,
                uid=claim.meta.uid,
                volume_name=claim.volume,
                volume_mode=VolumeMode(claim.volume_mode),
                identity=consumer_identity(claim.meta.name, world),
                tolerations=consumer_tolerations(claim.meta.name, world),
                copied=copies.get(claim.meta.name),
            )
            for claim in claims
        ),
        capture=capture,
        quiesce=spec.quiesce if spec.volumes is not None else Quiesce(strategy=QuiesceStrategy.NONE),
        mover=spec.mover,
    )
