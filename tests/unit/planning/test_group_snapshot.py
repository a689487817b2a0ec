"""One VolumeGroupSnapshot of all volumes: it takes the claims of the group and no others, and nothing of it is left."""

from dataclasses import replace

import pytest

from lowtide_operator.planning.actions import CreateCopy
from lowtide_operator.planning.naming import COPY_LABEL, GROUP_SNAPSHOT_LABEL, group_snapshot_name
from lowtide_operator.planning.observed import Claim, Owner
from lowtide_operator.planning.observed_copies import SnapshotClass, VolumeSnapshot
from tests.property.planning_world import Cluster
from tests.unit.planning.runs import RUN, cluster, counts, failure, gone, message, outcome, status
from tests.unit.planning.test_copies import captured, copying, step_until

SHORT = {"timeout": "1m"}


def grouping(**capture) -> Cluster:
    world = copying("GroupSnapshot", capture=capture)
    world.add_claim("of-someone-else")
    return world


def label(world: Cluster, claim: str, value: str | None) -> None:
    """As any other actor would."""
    found = world.claims[claim]
    labels = {key: text for key, text in found.meta.labels.items() if key != GROUP_SNAPSHOT_LABEL}
    labels |= {GROUP_SNAPSHOT_LABEL: value} if value is not None else {}
    world.claims[claim] = replace(found, meta=world.touched(found.meta, labels=labels))


def go_on(world: Cluster, *, rounds: int = 60, seconds: float = 2, each=lambda: None) -> None:
    for _ in range(rounds):
        each()
        world.step()
        world.reconcile(*RUN)
        world.pass_time(seconds)


def test_it_takes_the_claims_of_the_group_at_one_moment_and_no_others():
    world = grouping()
    step_until(world, lambda w: w.groups)
    (asked,) = world.grouped.values()
    assert world.marked() == ["data", "files"]
    assert asked.selected == {GROUP_SNAPSHOT_LABEL: world.snapshots["one"].meta.uid}
    step_until(world, captured)
    assert world.settled[asked.name] == ["data", "files"]
    assert world.marked() == []
    assert "one moment" in next(c.message for c in status(world).conditions if c.type == "Captured")
    world.run(RUN, seconds=2)
    assert outcome(world) == ("True", "Complete")
    assert len(world.grouped) == 1
    assert world.copies() == []


def test_movers_read_claims_that_are_made_from_the_member_of_the_same_claim():
    world = grouping()
    step_until(world, lambda w: sum(isinstance(made, CreateCopy) for made in w.copied.values()) == 2)
    of = {taken.meta.name: taken.claim for taken in world.taken.values()}
    made = {made.claim: of[made.snapshot] for made in world.copied.values()}
    assert made == {"data": "data", "files": "files"}
    assert {record.claim: of[record.snapshot_name] for record in status(world).copies} == made


def test_a_ready_group_does_not_end_the_downtime_in_the_observation_that_shows_it():
    world = grouping()
    step_until(world, lambda w: len(w.taken) == 2)
    world.step()
    assert all(group.ready for group in world.groups.values())
    assert not any(record.ready_at for record in status(world).copies)
    world.reconcile(*RUN)
    assert all(record.ready_at for record in status(world).copies)
    assert not captured(world)
    world.reconcile(*RUN)
    assert captured(world)


def test_a_mark_that_someone_takes_off_before_the_group_is_bound_is_set_again():
    world = grouping()
    world.trouble = "slow"
    step_until(world, lambda w: w.groups)
    label(world, "data", None)
    world.reconcile(*RUN)
    assert world.marked() == ["data", "files"]
    world.trouble = ""
    world.run(RUN, seconds=2)
    assert outcome(world) == ("True", "Complete")


def test_a_mark_that_another_run_left_is_replaced():
    world = grouping()
    label(world, "data", "another-run")
    world.run(RUN, seconds=2)
    assert outcome(world) == ("True", "Complete")
    assert world.marked() == []


def test_something_that_always_takes_the_marks_off_is_said_and_nothing_stays_down():
    world = grouping(**SHORT)
    step_until(world, gone)

    def strip() -> None:
        for name in world.marked():
            label(world, name, None)

    go_on(world, each=strip)
    assert outcome(world) == ("False", "CopyNotReady")
    assert "label selector not applied to any PVC" in message(world)
    assert counts(world) == {"db": 1, "web": 3}
    assert world.copies() == world.marked() == []


def test_a_claim_that_does_not_belong_to_the_group_fails_the_run():
    world = grouping()
    step_until(world, gone)
    label(world, "of-someone-else", world.snapshots["one"].meta.uid)
    world.run(RUN, seconds=2)
    assert outcome(world) == ("False", "GroupDiffers")
    assert "of-someone-else" in message(world)
    assert counts(world) == {"db": 1, "web": 3}
    assert world.copies() == world.marked() == []


def test_two_members_of_one_claim_fail_the_run():
    world = grouping()
    step_until(world, lambda w: any(group.bound for group in w.groups.values()))
    world.step()
    (group,) = world.groups.values()
    owner = Owner("groupsnapshot.storage.k8s.io/v1", "VolumeGroupSnapshot", group.meta.name, group.meta.uid)
    world.taken["forged"] = VolumeSnapshot(world.meta("forged", owners=(owner,)), "data", ready=True)
    world.run(RUN, seconds=2)
    assert outcome(world) == ("False", "GroupDiffers")


def test_a_group_without_a_snapshot_of_each_claim_is_never_taken_for_good():
    world = grouping(**SHORT)
    step_until(world, lambda w: any(group.bound for group in w.groups.values()))

    def lose() -> None:
        world.taken = {name: taken for name, taken in world.taken.items() if taken.claim != "data"}

    go_on(world, each=lose)
    assert outcome(world) == ("False", "CopyNotReady")
    assert "no snapshot of claim data" in message(world)
    assert counts(world) == {"db": 1, "web": 3}


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        pytest.param("rpc error: the pool is full", "rpc error: the pool is full", id="it says why"),
        pytest.param("", "csi-snapshotter run without them", id="it says nothing"),
    ],
)
def test_a_driver_that_can_not_take_groups_fails_the_run(says: str, expected: str):
    world = grouping(**SHORT)
    step_until(world, lambda w: any(group.bound for group in w.groups.values()))
    (name,) = world.groups
    world.settled[name] = []
    world.groups[name] = replace(world.groups[name], error=says)
    world.run(RUN, seconds=2)
    assert outcome(world) == ("False", "CopyNotReady")
    assert expected in message(world)
    assert "capture.timeout (1m)" in message(world)
    assert counts(world) == {"db": 1, "web": 3}
    assert world.copies() == world.marked() == []


def test_a_group_that_someone_deletes_fails_the_run():
    world = grouping()
    world.trouble = "slow"
    step_until(world, lambda w: status(w).group_snapshot is not None and status(w).group_snapshot.uid)
    world.groups.clear()
    world.trouble = ""
    world.run(RUN, seconds=2)
    assert outcome(world) == ("False", "CopyLost")
    assert world.copies() == world.marked() == []


def test_a_claim_that_is_replaced_fails_the_run():
    world = grouping()
    world.trouble = "slow"
    step_until(world, lambda w: w.groups)
    world.claims["data"] = replace(world.claims["data"], meta=world.meta("data"))
    world.trouble = ""
    world.run(RUN, seconds=2)
    assert outcome(world) == ("False", "ClaimReplaced")


@pytest.mark.parametrize("refused", ["group", "mark"])
def test_what_the_api_server_refuses_ends_the_downtime_at_once(refused: str):
    world = grouping()
    step_until(world, gone)
    snapshot = world.snapshots["one"]
    what = {
        "group": f"creating VolumeGroupSnapshot shop/{group_snapshot_name(snapshot.meta.uid)}: exceeded quota",
        "mark": "patching PersistentVolumeClaim shop/data: admission webhook denied the request",
    }[refused]
    ready = next(entry for entry in snapshot.status.conditions if entry.type == "Ready")
    said = ready.model_copy(update={"reason": "Forbidden", "message": what})
    conditions = tuple(said if entry is ready else entry for entry in snapshot.status.conditions)
    world.snapshots["one"] = replace(snapshot, status=snapshot.status.model_copy(update={"conditions": conditions}))
    world.groups.clear()
    world.reconcile(*RUN)
    assert failure(world) == "CopyRefused"
    assert what in status(world).failure.message


def test_marks_and_groups_of_a_run_that_is_gone_are_removed():
    world = grouping()
    world.trouble = "slow"
    step_until(world, lambda w: w.groups)
    before = (world.copies(), world.marked())
    world.pass_time(120)
    world.reconcile("orphans")
    world.step()
    assert (world.copies(), world.marked()) == before, "a run that goes on loses nothing"
    world.snapshots.clear()
    world.reconcile("orphans")
    world.step()
    assert world.copies() == world.marked() == []
    assert set(world.claims) == {"data", "files", "of-someone-else"}


def test_two_policies_on_the_same_claims_take_turns_without_any_downtime():
    world = cluster(capture={"method": "GroupSnapshot"}, quiesce={"strategy": "None"})
    world.add_snapshot("two")
    both = (RUN, ("snapshot", "two"))
    world.run(*both, seconds=2, rounds=120)
    assert [snapshot.status.end_time is not None for snapshot in world.snapshots.values()] == [True, True]
    assert outcome(world) == ("True", "Complete")
    assert world.snapshots["two"].status.verdict_snapshot_id
    assert len(world.grouped) == 2
    assert world.copies() == world.marked() == []
    assert world.held() == []


# --- what is refused before anything is stopped


def not_served(world: Cluster) -> None:
    world.snapshots_served = False


def classes(*found: SnapshotClass):
    def change(world: Cluster) -> None:
        world.snapshot_classes = list(found)

    return change


def another_driver(world: Cluster) -> None:
    world.volumes["pv-files"] = replace(world.volumes["pv-files"], driver="csi.elsewhere")


ONE = SnapshotClass("one", "csi.example")


@pytest.mark.parametrize(
    ("capture", "change", "reason", "said"),
    [
        pytest.param({}, not_served, "GroupSnapshotsNotServed", "groupsnapshot.storage.k8s.io/v1", id="no such kind"),
        pytest.param({}, another_driver, "SeveralDrivers", "files of csi.elsewhere", id="claims of two drivers"),
        pytest.param({}, classes(), "SnapshotClassMissing", "VolumeGroupSnapshotClass of csi.example", id="no class"),
        pytest.param(
            {},
            classes(ONE, replace(ONE, name="other")),
            "SnapshotClassAmbiguous",
            "capture.volumeGroupSnapshotClassName",
            id="two classes, and no default",
        ),
        pytest.param(
            {"volumeGroupSnapshotClassName": "far"},
            classes(replace(ONE, name="far", driver="elsewhere")),
            "SnapshotClassOfAnotherDriver",
            "VolumeGroupSnapshotClass far is of elsewhere",
            id="the named class is of another driver",
        ),
        pytest.param(
            {"volumeGroupSnapshotClassName": "two"},
            classes(ONE),
            "SnapshotClassMissing",
            "those of csi.example are one",
            id="the named class is not there",
        ),
        pytest.param(
            {},
            classes(replace(ONE, retains=True)),
            "CopiesWouldStay",
            "capture.volumeGroupSnapshotClassName",
            id="the class keeps what it takes",
        ),
    ],
)
def test_what_is_refused_before_anything_is_stopped(capture: dict, change, reason: str, said: str):
    world = copying("GroupSnapshot", capture=capture)
    change(world)
    world.run(RUN, seconds=2)
    assert outcome(world) == ("False", reason)
    assert said in message(world)
    assert world.log.count("PatchWorkload") == 0
    assert world.marked() == []


def test_copies_of_another_run_are_never_in_the_group():
    world = grouping()
    world.claims["copy"] = Claim(
        world.meta("copy", labels={COPY_LABEL: "true", GROUP_SNAPSHOT_LABEL: "another-run"}), "Bound", volume="pv-data"
    )
    world.run(RUN, seconds=2)
    assert outcome(world) == ("True", "Complete")
    assert [volume.claim for volume in status(world).volumes] == ["data", "files"]
