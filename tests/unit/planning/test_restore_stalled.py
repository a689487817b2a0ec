"""A Restore whose way back fails, and what a person does then: workloads stay down, and nothing of theirs is written
over."""

from dataclasses import replace

import pytest

from lowtide_operator.api.conditions import MAX_MESSAGE
from lowtide_operator.planning.actions import Purpose
from lowtide_operator.planning.naming import FINALIZER
from tests.property.planning_world import Cluster, Fate, reasons
from tests.unit.planning.restores import (
    RUN,
    backed_up,
    counts,
    end_the_holds,
    every_restore_fails,
    first_write_of_data,
    in_place,
    made,
    message,
    outcome,
    status,
    until,
)


def stalled() -> Cluster:
    """One whose Restore failed half-way, and whose way back failed, too."""
    world = backed_up()
    world.fate = every_restore_fails
    in_place(world)
    world.run(RUN, rounds=40)
    return world


@pytest.mark.parametrize("safety", ["Take", "Skip"])
def test_if_both_fail_it_stalls_with_the_command_to_release_by_hand(safety: str):
    world = backed_up()
    world.fate = every_restore_fails
    in_place(world, safetySnapshot=safety)
    world.run(RUN, ("orphans", ""), rounds=100)
    assert outcome(world) == ("False", "RollbackFailed")
    assert reasons(status(world).conditions)["Stalled"] == ("True", "RollbackFailed")
    assert "kubectl scale statefulset/db -n shop --replicas=1" in message(world)
    assert counts(world) == {"db": 0, "web": 0}
    assert status(world).end_time is None
    world.delete(*RUN)
    world.run(RUN, ("orphans", ""), rounds=20)
    assert world.restores["back"].meta.finalizers == (FINALIZER,)
    assert counts(world) == {"db": 0, "web": 0}
    end_the_holds(world)
    world.run(RUN, rounds=20)
    assert "back" not in world.restores


def test_a_way_back_that_failed_is_tried_again_until_it_works():
    """The repository was not to be reached for an hour."""
    world = backed_up()
    world.fate = every_restore_fails
    in_place(world)
    for _ in range(60):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(60)
    until(world, lambda w: outcome(w) == ("False", "RollbackFailed"))
    assert "it is tried again every 10 minutes" in message(world)
    attempts = max(record.attempt for record in status(world).jobs if record.role == "back")
    assert 4 <= attempts <= 9, "at times, not all the time"
    assert len(status(world).jobs) < 40, "what is long over is forgotten"
    assert counts(world) == {"db": 0, "web": 0}
    world.fate = lambda job: Fate()
    world.run(RUN, rounds=60, seconds=60)
    assert outcome(world) == ("False", "Damaged")
    assert "rolled back to what they held before" in message(world)
    assert (world.contents["data"], counts(world), world.held()) == ("lost", {"db": 1, "web": 3}, [])


def test_who_starts_the_workloads_by_hand_ends_it_and_nothing_is_written_beneath_them():
    world = stalled()
    assert outcome(world) == ("False", "RollbackFailed")
    begun = made(world, Purpose.RESTORE)
    end_the_holds(world)
    world.trespassed = True
    for workload in list(world.workloads.values()):
        world.scale(workload, 1)
    world.fate = lambda job: Fate()
    world.run(RUN, seconds=60)
    assert status(world).end_time is not None
    assert "It was not rolled back, and nothing is held any more" in message(world)
    assert made(world, Purpose.RESTORE) == begun


def test_who_looks_at_half_written_data_is_not_written_over_and_the_commands_stay():
    world = stalled()
    begun = made(world, Purpose.RESTORE)
    world.trespassed = True
    shell = world.add_pod("shell", "data")
    world.run(RUN, seconds=60, rounds=3)
    world._remove_pod(shell)
    world.fate = lambda job: Fate()
    world.run(RUN, seconds=60)
    assert outcome(world) == ("False", "RollbackFailed")
    assert "pod shell used data, and nothing is written over that" in message(world)
    assert "kubectl scale statefulset/db -n shop --replicas=1" in message(world)
    assert made(world, Purpose.RESTORE) == begun


def test_another_restore_begins_once_the_holds_of_the_one_that_stalled_are_ended():
    world = stalled()
    world.fate = lambda job: Fate()
    in_place(world, name="again")
    end_the_holds(world)
    world.run(RUN, ("restore", "again"), rounds=60)
    assert reasons(world.restores["again"].status.conditions)["Ready"] == ("True", "Restored")
    assert world.contents["data"] == "data of data"


def test_who_is_half_way_through_ending_the_holds_finds_the_workloads_still_down():
    """The annotation goes first: what the ledger says must not start an application on half-written data."""
    world = stalled()
    for workload in list(world.workloads.values()):
        meta = replace(world.touched(workload.meta), annotations={})
        world.workloads[workload.meta.uid] = replace(workload, meta=meta)
    world.run(RUN, rounds=20)
    assert counts(world) == {"db": 0, "web": 0}


@pytest.mark.parametrize("left_out", [False, True])
def test_the_message_has_every_command_and_what_does_not_fit_is_left_out_whole(left_out: bool):
    world = backed_up()
    names = [f"{'a-long-name-' * (12 if left_out else 4)}{number}" for number in range(64)]
    for name in names:
        world.add_workload("Deployment", name, "data")
    world.fate = every_restore_fails
    in_place(world)
    world.run(RUN, rounds=40)
    assert outcome(world) == ("False", "RollbackFailed")
    missing = [name for name in names if f"kubectl scale deployment/{name} -n shop --replicas=1" not in message(world)]
    assert bool(missing) is left_out
    assert {name for name in missing if f"Deployment {name}" not in message(world)} == set()
    assert message(world).endswith("Deployment web, StatefulSet db") is left_out
    assert len(message(world)) <= MAX_MESSAGE


def replace_claim(world: Cluster) -> None:
    """Somebody deletes the claim, and makes another one of its name."""
    claim = world.claims["data"]
    meta = replace(claim.meta, uid=world.meta("data").uid, annotations={})
    world.claims["data"] = replace(claim, meta=meta)
    world.contents["data"] = "somebody's"


def test_a_claim_that_was_replaced_is_not_rolled_back_and_the_others_are():
    world = backed_up()
    world.fate = first_write_of_data(world, "hang", then="ok")
    in_place(world)
    until(world, lambda w: len(made(w, Purpose.RESTORE)) == 2)
    world.step()
    replace_claim(world)
    world.run(RUN)
    assert outcome(world) == ("False", "RollbackFailed")
    assert "data was deleted or replaced" in message(world)
    assert world.contents["data"] == "somebody's"
    assert [claim for claim, role in made(world, Purpose.RESTORE) if role == "back"] == ["files"]
    assert counts(world) == {"db": 0, "web": 0}


def test_a_claim_that_is_replaced_once_all_is_restored_does_not_undo_it():
    world = backed_up()
    in_place(world)
    until(world, lambda w: reasons(status(w).conditions).get("Restored") == ("True", "Restored"))
    replace_claim(world)
    world.run(RUN)
    assert outcome(world) == ("True", "Restored")
    assert (counts(world), world.held()) == ({"db": 1, "web": 3}, [])
