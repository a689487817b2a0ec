"""Which workloads use a set of claims, and which of those Lowtide must not or can't stop."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lowtide_operator.api.quiesce import WorkloadKind, WorkloadRef
from lowtide_operator.planning.naming import is_ours
from lowtide_operator.planning.observed import Meta, Owner, Uid, Workload, World
from lowtide_operator.planning.observed_pods import Pod
from lowtide_operator.planning.switches import unreadable, workload_switches
from lowtide_operator.planning.updates import is_half_updated

STOPPABLE = frozenset(kind.value for kind in WorkloadKind)
UPDATE_WAITING = "UpdateWaiting"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a group can't be quiesced: a reason, and a sentence that says what to do."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Users:
    """The workloads to stop, in the order of stopping: (order, workload), named ones first, each group by kind and
    name.

    `running_jobs` are names of Jobs that use the claims now, and that are waited for: no Job is ever killed. So are
    `updating`, those of the workloads that are in the middle of an update that goes on.
    """

    workloads: tuple[tuple[int, Workload], ...] = ()
    running_jobs: tuple[str, ...] = ()
    updating: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def find_users(claims: frozenset[str], named: tuple[WorkloadRef, ...], world: World) -> Users:
    """Find them from the pods' owner chains, and from every pod template and volumeClaimTemplate that names a
    claim."""
    search = _Search(claims, world)
    for pod in world.pods:
        if not is_ours(pod.meta.labels) and not pod.finished and claims.intersection(pod.claims):
            search.follow_pod(pod)
    for workload in world.workloads:
        if not is_ours(workload.meta.labels) and names_a_claim(workload, claims):
            search.take(workload)
    orders: dict[Uid, int] = {}
    for order, reference in enumerate(named):
        search.take_named(reference, orders, order)
    for workload in search.found.values():
        orders.setdefault(workload.meta.uid, len(named))
    ordered = sorted(search.found.values(), key=lambda w: (orders[w.meta.uid], w.kind, w.meta.name))
    return Users(
        tuple((orders[workload.meta.uid], workload) for workload in ordered),
        tuple(sorted(search.running_jobs)),
        tuple(f"{w.kind} {w.meta.name}" for w in ordered if is_half_updated(w, world)),
        tuple(search.refusals.values()),
    )


def names_a_claim(workload: Workload, claims: frozenset[str]) -> bool:
    """Whether the workload's template, or one of a StatefulSet's volumeClaimTemplates, names one of the claims."""
    if claims.intersection(workload.claims):
        return True
    return any(
        re.fullmatch(rf"{re.escape(template)}-{re.escape(workload.meta.name)}-[0-9]+", claim)
        for template in workload.claim_templates
        for claim in claims
    )


def pods_of(uids: frozenset[Uid], world: World) -> tuple[Pod, ...]:
    """The pods whose chain of controllers leads to one of `uids`, finished ones excepted."""
    parents = {workload.meta.uid: workload.meta.controller for workload in world.workloads}

    def belongs(owner: Owner | None) -> bool:
        for _ in range(4):
            if owner is None:
                return False
            if owner.uid in uids:
                return True
            owner = parents.get(owner.uid)
        return False

    return tuple(pod for pod in world.pods if not pod.finished and belongs(pod.meta.controller))


def refusal_of(workload: Workload, world: World) -> Refusal | None:
    """Why this workload must not be stopped, if so. Asked when it is found, and again right before it is patched."""
    called = f"{workload.kind} {workload.meta.name}"
    owner = workload.meta.controller
    if owner is not None:
        return Refusal(
            "WorkloadManaged",
            f"{called} is managed by {owner.kind} {owner.name} ({owner.api_version}), which would undo any change: use "
            f"that object's own pause or hibernation around the run, or set quiesce.strategy to None.",
        )
    if workload.kind not in STOPPABLE:
        return Refusal(
            "WorkloadNotStoppable",
            f"{called} uses a volume of the group and can't be scaled down: stop it yourself, leave that volume out "
            f"of the group, or set quiesce.strategy to None.",
        )
    if workload.kind == "StatefulSet" and workload.when_scaled == "Delete":
        return Refusal(
            "ClaimsWouldBeDeleted",
            f"{called} has persistentVolumeClaimRetentionPolicy.whenScaled: Delete, so scaling it down would delete "
            f"its volumes: set whenScaled to Retain first.",
        )
    if workload.update_kept_by and is_half_updated(workload, world):
        return Refusal(
            UPDATE_WAITING,
            f"{called} has pods of an older revision ({workload.update_kept_by}), and after scaling it down all pods "
            f"would start with another one: finish or undo the update first, or scale it to 0 yourself.",
        )
    odd = unreadable(workload_switches(workload.meta))
    if odd:
        return Refusal(
            "SwitchNotUnderstood",
            f"{called} has the annotation {odd} with a value that its tool does not document, so it could not be put "
            f"back for sure after the run: correct or remove it.",
        )
    return None


class _Search:
    """One search: what was found so far. Nothing is counted twice, in whatever order things are seen."""

    def __init__(self, claims: frozenset[str], world: World) -> None:
        self._claims = claims
        self._world = world
        self._by_uid = {workload.meta.uid: workload for workload in world.workloads}
        self.found: dict[Uid, Workload] = {}
        self.running_jobs: set[str] = set()
        self.refusals: dict[tuple[str, str], Refusal] = {}

    def follow_pod(self, pod: Pod) -> None:
        """Take the workload at the end of the pod's chain of controllers, or refuse the pod."""
        owner = pod.meta.controller
        if owner is None:
            self._refuse(
                "BarePod",
                pod.meta,
                f"Pod {pod.meta.name} uses {self._which(pod.claims)} and no controller would start it again: delete it "
                f"for the time of the run, or run it by a Deployment.",
            )
            return
        workload = self._by_uid.get(owner.uid)
        if workload is None:
            self._refuse(
                "WorkloadManaged",
                pod.meta,
                f"Pod {pod.meta.name} uses {self._which(pod.claims)} and is managed by {owner.kind} {owner.name} "
                f"({owner.api_version}), which Lowtide does not know how to stop: use that object's own pause or "
                f"hibernation around the run, or set quiesce.strategy to None.",
            )
            return
        self.take(workload, used=True)

    def take(self, workload: Workload, *, used: bool = False) -> None:
        """Take a workload, or for a ReplicaSet of a Deployment and a Job of a CronJob what owns it.

        `used`: a pod of it is there. A ReplicaSet that is owned counts only then: old revisions name claims for ever.
        """
        owner = workload.meta.controller
        parent = self._by_uid.get(owner.uid) if owner is not None else None
        if workload.kind == "Job":
            if not workload.finished and (used or not workload.suspended):
                self.running_jobs.add(workload.meta.name)
            if parent is not None and parent.kind == "CronJob":
                self._keep(parent)
            return
        if workload.kind == "ReplicaSet" and owner is not None and owner.kind == "Deployment":
            if parent is not None and used:
                self._keep(parent)
            return
        self._keep(workload)

    def take_named(self, reference: WorkloadRef, orders: dict[Uid, int], order: int) -> None:
        """Take a workload that the policy names; one that does not exist is refused."""
        for workload in self._world.workloads:
            if workload.kind == reference.kind.value and workload.meta.name == reference.name:
                self._keep(workload)
                orders[workload.meta.uid] = order
                return
        self.refusals[(reference.kind.value, reference.name)] = Refusal(
            "WorkloadNotFound",
            f"quiesce.workloads names {reference.kind.value} {reference.name}, which does not exist: correct the name "
            f"or take it out of the list.",
        )

    def _keep(self, workload: Workload) -> None:
        refusal = refusal_of(workload, self._world)
        if refusal is not None:
            self.refusals[(workload.kind, workload.meta.name)] = refusal
        else:
            self.found[workload.meta.uid] = workload

    def _refuse(self, reason: str, meta: Meta, message: str) -> None:
        self.refusals[("Pod", meta.name)] = Refusal(reason, message)

    def _which(self, claims: Iterable[str]) -> str:
        return ", ".join(sorted(self._claims.intersection(claims)))
