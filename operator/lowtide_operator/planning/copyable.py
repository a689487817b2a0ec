"""Whether a volume can be copied by the method that the policy names, and how: asked before anything is stopped.

What the API server does not tell (whether a driver clones, whether its snapshots work) shows when a copy is made. No
other method is ever taken in the place of one that does not work.
"""

from __future__ import annotations

from collections.abc import Iterable

from lowtide_operator.api import SnapshotStatus
from lowtide_operator.api.policy import Capture, CaptureMethod
from lowtide_operator.api.snapshot import ResolvedCopy
from lowtide_operator.planning.naming import is_ours
from lowtide_operator.planning.observed import Claim, Volume, World
from lowtide_operator.planning.observed_copies import SnapshotClass, StorageClass
from lowtide_operator.planning.run import Run

OTHERWISE = "or take capture.method Direct, which keeps workloads down until all is read"


def resolve_copy(run: Run[SnapshotStatus], capture: Capture, claim: Claim) -> ResolvedCopy | None:
    """How the copy of `claim` is to be made. Fails the run, and answers None, where it can't be."""
    name, world = claim.meta.name, run.world
    volume = next((volume for volume in world.volumes if volume.name == claim.volume), None)
    if volume is None or not volume.driver:
        run.fail(
            "NotCSI",
            f"The volume of claim {name} is not one of a CSI driver, so it can be neither snapshotted nor cloned: "
            f"leave it out of the group, {OTHERWISE}.",
        )
        return None
    storage = _storage_class(run, capture, claim, volume.driver)
    if storage is None:
        return None
    if capture.method is not CaptureMethod.CLONE:
        chosen = _snapshot_class(run, capture, name, volume.driver)
        if chosen is None:
            return None
        return ResolvedCopy(snapshot_class_name=chosen.name, storage_class_name=storage.name)
    node = _node(claim, volume, world) if storage.waits else ""
    if storage.waits and not node:
        run.fail(
            "NodeUnknown",
            f"StorageClass {storage.name} makes a volume for the node of its consumer, and no pod tells on which node "
            f"claim {name} is: set capture.storageClassName to a class of {volume.driver} that binds at once, or take "
            f"capture.method Snapshot.",
        )
        return None
    return ResolvedCopy(storage_class_name=storage.name, node=node)


def _storage_class(run: Run[SnapshotStatus], capture: Capture, claim: Claim, driver: str) -> StorageClass | None:
    wanted = capture.storage_class_name or claim.storage_class
    found = next((known for known in run.world.storage_classes if known.name == wanted), None)
    advice = f"set capture.storageClassName to one of {driver} whose reclaimPolicy is Delete"
    if found is None:
        which = f"There is no StorageClass {wanted}" if wanted else f"Claim {claim.meta.name} has no StorageClass"
        run.fail("StorageClassMissing", f"{which}, in which a copy of claim {claim.meta.name} could be made: {advice}.")
    elif found.provisioner != driver:
        run.fail(
            "StorageClassOfAnotherDriver",
            f"StorageClass {found.name} is of {found.provisioner}, and the volume of claim {claim.meta.name} of "
            f"{driver}: {advice}.",
        )
    elif found.retains:
        run.fail(
            "CopiesWouldStay",
            f"StorageClass {found.name} has the reclaimPolicy Retain, so the volume of every copy of claim "
            f"{claim.meta.name} would stay for ever: {advice}.",
        )
    else:
        return found
    return None


def is_of_one_driver(run: Run[SnapshotStatus], claims: Iterable[Claim]) -> bool:
    """Whether those of `claims` that have a driver have the same, as a VolumeGroupSnapshot wants it. Fails the run
    where not."""
    drivers = {volume.name: volume.driver for volume in run.world.volumes if volume.driver}
    of: dict[str, list[str]] = {}
    for claim in claims:
        if claim.volume in drivers:
            of.setdefault(drivers[claim.volume], []).append(claim.meta.name)
    if len(of) < 2:
        return True
    shares = "; ".join(f"{', '.join(names)} of {driver}" for driver, names in sorted(of.items()))
    run.fail(
        "SeveralDrivers",
        f"One VolumeGroupSnapshot takes the volumes of one driver, and these claims are of {len(of)}: {shares}. Make "
        f"a policy for each, or take capture.method Snapshot: with quiesce.strategy ScaleDown it is as consistent.",
    )
    return False


def _snapshot_class(run: Run[SnapshotStatus], capture: Capture, claim: str, driver: str) -> SnapshotClass | None:
    together = capture.method is CaptureMethod.GROUP_SNAPSHOT
    kind = "VolumeGroupSnapshotClass" if together else "VolumeSnapshotClass"
    field = f"capture.{kind[0].lower()}{kind[1:]}Name"
    if not run.world.snapshots_served:
        missing = (
            "VolumeGroupSnapshots (groupsnapshot.storage.k8s.io/v1, with VolumeSnapshots beside them)"
            if together
            else "VolumeSnapshots (snapshot.storage.k8s.io/v1)"
        )
        run.fail(
            "GroupSnapshotsNotServed" if together else "SnapshotsNotServed",
            f"This cluster has no {missing}, so capture.method {capture.method} can't be used: install the CSI "
            f"snapshot controller{' (8.6 or newer)' if together else ''} and its definitions, {OTHERWISE}.",
        )
        return None
    of_driver = [known for known in run.world.snapshot_classes if known.driver == driver]
    wanted = capture.volume_group_snapshot_class_name if together else capture.volume_snapshot_class_name
    if wanted is not None:
        found = next((known for known in run.world.snapshot_classes if known.name == wanted), None)
        if found is None:
            run.fail("SnapshotClassMissing", f"There is no {kind} {wanted}: {_those_of(of_driver, driver)}.")
            return None
        if found.driver != driver:
            run.fail(
                "SnapshotClassOfAnotherDriver",
                f"{kind} {wanted} is of {found.driver}, and the volume of claim {claim} of {driver}: "
                f"{_those_of(of_driver, driver)}.",
            )
            return None
    else:
        defaults = [known for known in of_driver if known.default]
        candidates = defaults or of_driver
        if not candidates:
            run.fail(
                "SnapshotClassMissing",
                f"There is no {kind} of {driver}, the driver of claim {claim}: it may have no "
                f"{'group snapshots' if together else 'snapshots'}. Make a class, {OTHERWISE}.",
            )
            return None
        if len(candidates) > 1:
            names = ", ".join(sorted(known.name for known in candidates))
            run.fail(
                "SnapshotClassAmbiguous",
                f"{driver} has {len(candidates)} {kind}es to choose from ({names}): name one in {field}, or make one "
                f"the default.",
            )
            return None
        (found,) = candidates
    if found.retains:
        run.fail(
            "CopiesWouldStay",
            f"{kind} {found.name} has the deletionPolicy Retain, so every snapshot would stay in the storage for ever: "
            f"name one with deletionPolicy Delete in {field}.",
        )
        return None
    return found


def _those_of(classes: list[SnapshotClass], driver: str) -> str:
    names = ", ".join(sorted(known.name for known in classes))
    return f"those of {driver} are {names}" if names else f"{driver} has none"


def _node(claim: Claim, volume: Volume, world: World) -> str:
    """A node on which the volume can be reached: that of its consumer, else one that its affinity allows, and where it
    has none, any that is known; "" where nothing tells."""
    users = sorted(
        (pod.finished, pod.node)
        for pod in world.pods
        if claim.meta.name in pod.claims and pod.node and not is_ours(pod.meta.labels)
    )
    if users:
        return users[0][1]
    if volume.node_terms:
        return min(volume.nodes or ("",))
    return min((node.name for node in world.nodes if node.ready), default="")
