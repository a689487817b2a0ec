"""A run by copies: workloads are down until the copies are ready, and no longer; nothing is left of the copies."""

from dataclasses import replace
from datetime import timedelta

import pytest

from lowtide_operator.api.conditions import is_true
from lowtide_operator.planning.actions import CreateCopy, CreateVolumeSnapshot, Purpose
from lowtide_operator.planning.copies import bytes_of
from lowtide_operator.planning.naming import COPY_LABEL, RUN_LABEL, copy_name
from lowtide_operator.planning.observed_copies import SnapshotClass, StorageClass
from tests.property.planning_world import Cluster, Fate, reasons
from tests.unit.planning.runs import RUN, cluster, counts, down, failure, fates, gone, message, outcome, status, until

METHODS = ("Snapshot", "GroupSnapshot", "Clone")
WAITS = StorageClass("standard", "csi.example", waits=True)

every_method = pytest.mark.parametrize("method", METHODS)
each_of_its_own = pytest.mark.parametrize("method", ["Snapshot", "Clone"])


def copying(method: str, **policy) -> Cluster:
    return cluster(capture={"method": method, **policy.pop("capture", {})}, **policy)


def captured(world: Cluster) -> bool:
    return is_true(status(world).conditions, "Captured")


def asked(world: Cluster, kind: type) -> list:
    return [action for action in world.copied.values() if isinstance(action, kind)]


def being_made(world: Cluster) -> bool:
    """Whether every copy is asked for: one group, or two of their own."""
    return bool(world.groups) or len(world.copies()) == 2


def step_until(world: Cluster, reached) -> None:
    until(world, reached, seconds=1)


@every_method
def test_a_run_by_copies_stores_what_was_there_while_all_was_down_and_leaves_no_copy(method: str):
    world = copying(method)
    world.run(RUN, seconds=2)
    assert outcome(world) == ("True", "Complete")
    assert {v.claim for v in status(world).volumes} == {"data", "files"}
    stored = [known for known in world.repository.values() if not known.members]
    assert sorted(known.content for known in stored) == ["data of data", "data of files"]
    assert not any(known.torn for known in stored)
    assert counts(world) == {"db": 1, "web": 3}
    assert world.copies() == []


@every_method
def test_workloads_run_again_before_the_first_mover_reads(method: str):
    world = copying(method)
    fates(world, backup=Fate("hang"))
    step_until(world, lambda w: any(mover.job.purpose is Purpose.BACKUP for mover in w.movers.values()))
    ledger = status(world).quiesce
    assert ledger is not None
    assert ledger.ready_time is not None
    assert status(world).downtime == ledger.ready_time - ledger.start_time
    assert counts(world) == {"db": 1, "web": 3}
    assert {mover.job.copy for mover in world.movers.values() if mover.job.purpose is Purpose.BACKUP} <= {
        copy_name(world.snapshots["one"].meta.uid, claim) for claim in ("data", "files")
    }


@every_method
def test_the_downtime_does_not_grow_with_the_upload(method: str):
    world = copying(method)
    fates(world, backup=Fate("hang"))
    step_until(world, lambda w: status(w).downtime is not None)
    downtime = status(world).downtime
    for _ in range(10):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(60)
    world.fate = lambda job: Fate()
    world.run(RUN, seconds=2)
    assert outcome(world) == ("True", "Complete")
    assert status(world).downtime == downtime
    assert status(world).upload >= timedelta(minutes=9)


@every_method
def test_nothing_is_copied_before_every_pod_is_gone(method: str):
    world = copying(method)
    step_until(world, down)
    pod = next(iter(world.pods.values()))
    world.stuck.add(pod.meta.uid)
    for _ in range(5):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(5)
    assert not gone(world)
    assert world.copies() == []


@every_method
def test_a_pod_that_comes_back_before_the_copies_are_seen_to_be_ready_makes_the_run_inconsistent(method: str):
    world = copying(method)
    step_until(world, being_made)
    world.add_pod("intruder", "data")
    world.run(RUN, seconds=2)
    assert outcome(world) == ("False", "Inconsistent")
    assert "intruder" in message(world)
    assert world.copies() == []


@each_of_its_own
def test_ready_copies_do_not_end_the_downtime_in_the_observation_that_shows_them(method: str):
    """Its pods may have been listed before a pod came, and its copies after they held that pod's writes."""
    world = copying(method)
    step_until(world, being_made)
    world.step()
    world.reconcile(*RUN)
    assert all(record.ready_at for record in status(world).copies)
    assert not captured(world)
    world.reconcile(*RUN)
    assert captured(world)


@every_method
@pytest.mark.parametrize("crash_after", range(4))
def test_an_operator_that_dies_in_every_plan_leaves_nothing_down_and_no_copy(method: str, crash_after: int):
    world = copying(method)
    for _ in range(120):
        world.step()
        world.reconcile(*RUN, crash_after=crash_after)
        world.reconcile(*RUN)
        world.pass_time(2)
    assert outcome(world) == ("True", "Complete")
    assert world.held() == []
    assert world.copies() == world.marked() == []
    assert len([known for known in world.repository.values() if not known.members]) == 2


@every_method
def test_a_driver_that_can_not_copy_fails_the_run_with_its_own_words(method: str):
    world = copying(method, capture={"timeout": "1m"})
    world.trouble = "rpc error: the pool is full"
    world.run(RUN, seconds=5)
    assert outcome(world) == ("False", "CopyNotReady")
    assert "the pool is full" in message(world)
    assert "capture.timeout (1m)" in message(world)
    assert counts(world) == {"db": 1, "web": 3}
    assert not any(record.purpose == "backup" for record in status(world).jobs), "never a fallback to Direct"
    world.trouble = ""
    world.run(RUN, seconds=5)
    assert world.copies() == []


@every_method
def test_max_downtime_ends_the_wait_for_copies_too(method: str):
    world = copying(method, quiesce={"timeout": "1m", "maxDowntime": "2m"})
    world.trouble = "slow"
    world.run(RUN, seconds=5)
    assert outcome(world) == ("False", "MaxDowntimeExceeded")
    assert status(world).downtime < timedelta(minutes=2, seconds=30)


@every_method
def test_a_mover_that_fails_for_good_keeps_nobody_down_and_leaves_no_copy(method: str):
    world = copying(method)
    fates(world, backup=Fate("failed", stores=False))
    world.run(RUN, seconds=2)
    assert outcome(world)[0] == "False"
    assert status(world).downtime < timedelta(minutes=1)
    assert world.copies() == []


@each_of_its_own
def test_a_copy_that_someone_deletes_fails_the_run(method: str):
    world = copying(method)
    world.trouble = "slow"
    step_until(world, lambda w: all(record.uid for record in status(w).copies) and len(status(w).copies) == 2)
    for store in (world.taken, world.claims):
        store.pop(copy_name(world.snapshots["one"].meta.uid, "data"), None)
    world.trouble = ""
    world.run(RUN, seconds=2)
    assert outcome(world) == ("False", "CopyLost")
    assert world.copies() == []


@each_of_its_own
def test_a_copy_that_the_api_server_refuses_ends_the_downtime_at_once(method: str):
    world = copying(method)
    step_until(world, gone)
    snapshot = world.snapshots["one"]
    name = copy_name(snapshot.meta.uid, "data")
    ready = next(entry for entry in snapshot.status.conditions if entry.type == "Ready")
    refused = ready.model_copy(update={"reason": "Forbidden", "message": f"creating shop/{name}: exceeded quota"})
    conditions = tuple(refused if entry is ready else entry for entry in snapshot.status.conditions)
    world.snapshots["one"] = replace(snapshot, status=snapshot.status.model_copy(update={"conditions": conditions}))
    world.copied.clear()
    world.taken.clear()
    world.claims = {key: claim for key, claim in world.claims.items() if COPY_LABEL not in claim.meta.labels}
    world.reconcile(*RUN)
    assert failure(world) == "CopyRefused"
    assert "exceeded quota" in status(world).failure.message


@every_method
def test_deleting_the_snapshot_in_the_middle_brings_everything_back_and_leaves_no_copy(method: str):
    world = copying(method)
    world.trouble = "slow"
    step_until(world, being_made)
    world.delete("snapshot", "one")
    for _ in range(20):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(2)
    assert "one" not in world.snapshots
    assert counts(world) == {"db": 1, "web": 3}
    assert world.copies() == []


@every_method
def test_copies_whose_snapshot_is_gone_are_deleted_as_orphans(method: str):
    world = copying(method)
    step_until(world, being_made)
    world.snapshots.clear()
    world.pass_time(120)
    for _ in range(6):
        world.reconcile("orphans")
        world.step()
    assert world.copies() == []
    assert set(world.claims) == {"data", "files"}
    assert counts(world) == {"db": 1, "web": 3}


def test_copies_of_a_run_that_goes_on_are_nobodys_orphans():
    world = copying("Snapshot")
    step_until(world, being_made)
    before = world.copies()
    world.pass_time(120)
    world.reconcile("orphans")
    world.step()
    assert world.copies() == before


@every_method
def test_copies_that_do_not_go_are_said_and_do_not_hold_up_the_run_for_ever(method: str):
    world = copying(method)
    step_until(world, captured)
    step_until(world, lambda w: is_true(status(w).conditions, "Uploaded"))
    keep = dict(world.taken)
    claims = {name: claim for name, claim in world.claims.items() if COPY_LABEL in claim.meta.labels}
    for _ in range(40):
        world.taken.update(keep)
        world.claims.update(claims)
        world.step()
        world.taken.update(keep)
        world.claims.update(claims)
        world.reconcile(*RUN)
        world.pass_time(10)
    assert outcome(world) == ("True", "Complete")
    assert [event.reason for event in world.events if event.reason == "CopiesLeft"] == ["CopiesLeft"]
    world.run(RUN, seconds=10)
    assert world.copies() == []


# --- how copies are made


def test_a_claim_that_waits_for_a_consumer_is_bound_by_its_mover():
    world = copying("Snapshot")
    world.storage_classes = [WAITS]
    world.volumes = {
        name: replace(volume, node_terms=({"matchExpressions": [name]},)) for name, volume in world.volumes.items()
    }
    world.run(RUN, seconds=2)
    assert outcome(world) == ("True", "Complete")
    assert {action.node for action in asked(world, CreateCopy)} == {""}


def test_a_clone_of_a_class_that_waits_is_made_for_the_node_of_its_consumer():
    world = copying("Clone")
    world.storage_classes = [WAITS]
    world.run(RUN, seconds=2)
    assert outcome(world) == ("True", "Complete")
    assert {action.node for action in asked(world, CreateCopy)} == {"node-a"}


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        (("ReadWriteOnce",), ("ReadWriteOnce",)),
        (("ReadWriteOncePod",), ("ReadWriteOncePod",)),
        (("ReadWriteMany",), ("ReadWriteMany",)),
        (("ReadOnlyMany",), ("ReadWriteOnce",)),
        (("ReadOnlyMany", "ReadWriteMany"), ("ReadWriteMany",)),
    ],
)
@every_method
def test_the_access_modes_of_a_copy(method: str, modes: tuple[str, ...], expected: tuple[str, ...]):
    world = copying(method)
    world.claims["data"] = replace(world.claims["data"], access_modes=modes)
    world.run(RUN, seconds=2)
    assert outcome(world) == ("True", "Complete")
    (made,) = (action for action in asked(world, CreateCopy) if action.claim == "data")
    assert made.access_modes == expected


def test_a_claim_is_as_large_as_its_snapshot_says_it_must_be():
    world = copying("Snapshot")
    step_until(world, lambda w: len(w.taken) == 2)
    name = copy_name(world.snapshots["one"].meta.uid, "data")
    world.step()
    world.taken[name] = replace(world.taken[name], size="1100Mi")
    world.run(RUN, seconds=2)
    sizes = {action.claim: action.size for action in asked(world, CreateCopy)}
    assert sizes == {"data": "1100Mi", "files": "1Gi"}


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [("1Gi", 2**30), ("1G", 10**9), ("512", 512), ("1.5Ki", 1536), ("4k", 4000), ("500m", 0.5), ("", 0), ("lots", 0)],
)
def test_a_quantity_as_a_number(quantity: str, expected: float):
    assert bytes_of(quantity) == expected


@pytest.mark.parametrize("method", ["Snapshot", "Clone", "Direct"])
def test_a_claim_that_only_one_pod_may_have_is_read_beside_that_pod_only_as_a_copy(method: str):
    world = cluster(capture={"method": method}, quiesce={"strategy": "None"})
    world.claims["data"] = replace(world.claims["data"], access_modes=("ReadWriteOncePod",))
    world.run(RUN, seconds=2)
    assert outcome(world) == (("False", "ClaimInUse") if method == "Direct" else ("True", "Complete"))
    assert world.copies() == []


def test_a_selector_never_takes_a_copy():
    requirement = {"key": "no-such-label", "operator": "DoesNotExist"}
    world = copying("Clone", volumes={"selector": {"matchExpressions": [requirement]}})
    world.add_claim("copy-of-another-run", labels={COPY_LABEL: "true", RUN_LABEL: "another"})
    world.run(RUN, seconds=2)
    assert outcome(world) == ("True", "Complete")
    assert [volume.claim for volume in status(world).volumes] == ["data", "files"]


# --- what is refused before anything is stopped


def without_csi(world: Cluster) -> None:
    world.volumes["pv-data"] = replace(world.volumes["pv-data"], driver="")


def no_snapshots(world: Cluster) -> None:
    world.snapshots_served = False


def classes(*found: SnapshotClass):
    def change(world: Cluster) -> None:
        world.snapshot_classes = list(found)

    return change


def storage(*found: StorageClass):
    def change(world: Cluster) -> None:
        world.storage_classes = list(found)

    return change


def nobody_knows_the_node(world: Cluster) -> None:
    world.storage_classes = [WAITS]
    world.nodes.clear()
    for found in list(world.workloads.values()):
        world.scale(found, 0)
    world.step()
    world.step()
    assert world.pods == {}


ONE, OTHER = SnapshotClass("one", "csi.example"), SnapshotClass("other", "csi.example")


@pytest.mark.parametrize(
    ("capture", "change", "reason", "said"),
    [
        pytest.param("Snapshot", without_csi, "NotCSI", "Direct", id="a volume without CSI has no snapshots"),
        pytest.param("Clone", without_csi, "NotCSI", "Direct", id="a volume without CSI has no clones"),
        pytest.param("Snapshot", no_snapshots, "SnapshotsNotServed", "install", id="the cluster has no such kind"),
        pytest.param("Snapshot", classes(), "SnapshotClassMissing", "csi.example", id="no class of the driver"),
        pytest.param(
            "Snapshot", classes(ONE, OTHER), "SnapshotClassAmbiguous", "one, other", id="two classes, and no default"
        ),
        pytest.param(
            {"volumeSnapshotClassName": "two"},
            classes(ONE),
            "SnapshotClassMissing",
            "those of csi.example are one",
            id="the named class is not there",
        ),
        pytest.param(
            {"volumeSnapshotClassName": "far"},
            classes(SnapshotClass("far", "elsewhere")),
            "SnapshotClassOfAnotherDriver",
            "elsewhere",
            id="the named class is of another driver",
        ),
        pytest.param(
            "Snapshot",
            classes(replace(ONE, retains=True)),
            "CopiesWouldStay",
            "deletionPolicy Delete",
            id="the class keeps what it takes",
        ),
        pytest.param("Clone", storage(), "StorageClassMissing", "standard", id="the claim's storage class is gone"),
        pytest.param(
            "Clone",
            storage(StorageClass("standard", "csi.example", retains=True)),
            "CopiesWouldStay",
            "reclaimPolicy",
            id="the storage class keeps its volumes",
        ),
        pytest.param(
            {"storageClassName": "other"},
            storage(StorageClass("other", "elsewhere")),
            "StorageClassOfAnotherDriver",
            "elsewhere",
            id="the named storage class is of another driver",
        ),
        pytest.param("Clone", nobody_knows_the_node, "NodeUnknown", "binds at once", id="no node for a clone"),
    ],
)
def test_what_can_not_be_copied_is_refused_before_anything_is_stopped(capture, change, reason: str, said: str):
    settings = {"method": capture} if isinstance(capture, str) else {"method": "Snapshot", **capture}
    world = cluster(capture=settings)
    change(world)
    before = dict(world.workloads)
    world.reconcile(*RUN)
    assert failure(world) == reason
    assert said in status(world).failure.message
    world.run(RUN, seconds=2)
    assert outcome(world) == ("False", reason)
    assert "PatchWorkload" not in world.log
    assert "CreateJob" not in world.log
    assert before.keys() == world.workloads.keys()


@pytest.mark.parametrize(
    ("found", "named", "expected"),
    [
        ([ONE, replace(OTHER, default=True)], None, "other"),
        ([ONE], None, "one"),
        ([ONE, replace(OTHER, default=True)], "one", "one"),
        ([ONE, SnapshotClass("far", "elsewhere", default=True)], None, "one"),
    ],
    ids=["the driver's default", "its only class", "the named one", "another driver's default counts for nothing"],
)
def test_the_snapshot_class_that_is_taken(found: list[SnapshotClass], named: str | None, expected: str):
    world = copying("Snapshot", capture={"volumeSnapshotClassName": named} if named else {})
    world.snapshot_classes = found
    world.run(RUN, seconds=2)
    assert outcome(world) == ("True", "Complete")
    assert {action.snapshot_class for action in asked(world, CreateVolumeSnapshot)} == {expected}


@every_method
def test_conditions_tell_a_run_by_copies_from_one_that_reads_the_volumes(method: str):
    world = copying(method)
    world.run(RUN, seconds=2)
    conditions = reasons(status(world).conditions)
    assert conditions["Captured"] == ("True", "Copied")
    assert conditions["Released"] == ("True", "Released")
    assert conditions["Uploaded"] == ("True", "Stored")


@every_method
@pytest.mark.parametrize("comes_back", [False, True], ids=["for good", "for a while"])
def test_an_upload_whose_node_dies_does_not_stop_the_schedule(method: str, comes_back: bool):
    """The eviction deletes the pod, and nobody can confirm that it is gone."""
    world = copying(method)
    fates(world, backup=Fate("hang"))
    step_until(world, lambda w: len(uploads(w)) == 2)
    for pod in uploads(world):
        world.stuck.add(pod.meta.uid)
        world.pods[pod.meta.uid] = replace(pod, progress=None)
        world.delete_pod(world.pods[pod.meta.uid])
    lost = {pod.meta.uid for pod in uploads(world)}
    fates(world, backup=Fate() if comes_back else Fate("failed", False))
    for _ in range(240):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(5)
    assert lost <= set(world.pods)
    assert outcome(world) == (("True", "Complete") if comes_back else ("False", "StorageFailed"))
    assert all("node-a is lost" in (r.message or "") for r in status(world).jobs if r.reason == "ResultLost")
    assert counts(world) == {"db": 1, "web": 3}


def uploads(world: Cluster) -> list:
    movers = [uid for uid, mover in world.movers.items() if mover.job.purpose is Purpose.BACKUP]
    return [pod for uid, pod in world.pods.items() if uid in movers]
