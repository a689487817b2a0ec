"""KEDA is paused before its workload is stopped, and goes on once the count is back, exactly as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from lowtide_operator.api.quiesce import LedgerEntry
from lowtide_operator.planning.armed import LEAD
from lowtide_operator.planning.keepers import PAUSED_WITHIN
from lowtide_operator.planning.naming import HELD_LABEL, HOLD_ANNOTATION, RELEASED_ANNOTATION, RESTORED_ANNOTATION
from lowtide_operator.planning.observed import Keeper, Uid
from lowtide_operator.planning.stamp import Stamp, StampState
from lowtide_operator.planning.switches import KEDA_PAUSED, KEDA_PAUSED_REPLICAS, switches_of
from tests.property.planning_world import Cluster, reasons
from tests.unit.planning.runs import RUN, cluster, counts, gone, message, outcome, status, until, workload

KUSTOMIZATION = {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}
PAUSED = {KEDA_PAUSED: "true"}


def scaled(annotations: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None) -> Cluster:
    """A shop whose Deployment is kept by KEDA."""
    world = cluster()
    keeper = world.add_keeper("web-scaler", ("Deployment", "web"), **(annotations or {}))
    world.keepers[keeper.meta.uid] = replace(keeper, meta=replace(keeper.meta, labels=labels or {}))
    return world


def keeper_of(world: Cluster) -> Keeper:
    (keeper,) = world.keepers.values()
    return keeper


def notes(world: Cluster) -> dict[str, str]:
    """Its annotations, without our own."""
    ours = (HOLD_ANNOTATION, RELEASED_ANNOTATION)
    return {key: value for key, value in keeper_of(world).meta.annotations.items() if key not in ours}


def annotate(world: Cluster, **annotations: str | None) -> None:
    """A person does."""
    keeper = keeper_of(world)
    merged = {k: v for k, v in {**keeper.meta.annotations, **annotations}.items() if v is not None}
    world.keepers[keeper.meta.uid] = replace(keeper, meta=world.touched(keeper.meta, annotations=merged))


def entry(world: Cluster) -> LedgerEntry:
    """What the ledger says of it."""
    ledger = status(world).quiesce
    assert ledger is not None
    return next(entry for entry in ledger.workloads if entry.kind == "ScaledObject")


@pytest.mark.parametrize(
    ("labels", "before", "wanted"),
    [
        ({}, {}, {KEDA_PAUSED: None}),
        ({}, {KEDA_PAUSED: "false"}, {KEDA_PAUSED: "false"}),
        ({}, {KEDA_PAUSED: "true"}, {}),
        ({}, {KEDA_PAUSED_REPLICAS: "2"}, {KEDA_PAUSED: None, KEDA_PAUSED_REPLICAS: "2"}),
        ({}, {KEDA_PAUSED: "true", KEDA_PAUSED_REPLICAS: "2"}, {KEDA_PAUSED_REPLICAS: "2"}),
        (KUSTOMIZATION, {}, {"kustomize.toolkit.fluxcd.io/reconcile": None, KEDA_PAUSED: None}),
        (KUSTOMIZATION, {KEDA_PAUSED: "true"}, {}),
    ],
)
def test_what_is_put_on(labels: dict[str, str], before: dict[str, str], wanted: dict[str, str | None]):
    found = switches_of(keeper_of(scaled(before, labels)))
    assert {switch.annotation: switch.value for switch in found} == wanted


@pytest.mark.parametrize(
    ("before", "count"),
    [
        ({}, 3),
        ({KEDA_PAUSED: "false", "note": "x"}, 3),
        ({KEDA_PAUSED_REPLICAS: "2"}, 2),
        ({KEDA_PAUSED: "true", KEDA_PAUSED_REPLICAS: "2"}, 2),
    ],
)
def test_it_is_paused_before_its_workload_is_stopped_and_then_as_it_was(before: dict[str, str], count: int):
    world = scaled(before)
    world.step()
    while status(world).end_time is None:
        world.step()
        world.reconcile(*RUN)
        if counts(world)["web"] == 0:
            assert (notes(world)[KEDA_PAUSED], KEDA_PAUSED_REPLICAS in notes(world)) == ("true", False)
            assert keeper_of(world).paused, "stopped before KEDA said that it is paused"
        world.pass_time(2)
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert (counts(world)["web"], notes(world)) == (count, before)
    assert entry(world).state == "Released"
    assert keeper_of(world).meta.labels == {}
    assert not {HOLD_ANNOTATION, RELEASED_ANNOTATION} & set(keeper_of(world).meta.annotations)


def test_one_that_somebody_has_paused_already_is_left_alone():
    world = scaled(PAUSED)
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert notes(world) == PAUSED
    ledger = status(world).quiesce
    assert ledger is not None
    assert {each.kind for each in ledger.workloads} == {"StatefulSet", "Deployment"}


@pytest.mark.parametrize("die_at", range(0, 60, 2))
def test_an_operator_that_dies_at_any_step_leaves_nothing_paused(die_at: int):
    world = scaled({KEDA_PAUSED: "false"})
    done = 0
    while (
        status(world).end_time is None
        or keeper_of(world).meta.labels
        or RELEASED_ANNOTATION in str(keeper_of(world).meta.annotations)
    ):
        world.step()
        left = die_at - done
        plan = world.reconcile(*RUN, crash_after=left if 0 <= left < 10 else None)
        done += len(plan.actions) + 1
        if counts(world)["web"] == 0:
            assert notes(world) == {KEDA_PAUSED: "true"}
        world.pass_time(2)
        assert done < 500, "it never ends"
    assert outcome(world) == ("True", "Complete")
    assert (counts(world)["web"], notes(world)) == (3, {KEDA_PAUSED: "false"})


def test_nothing_is_stopped_before_it_says_that_it_is_paused_and_one_that_is_silent_is_not_waited_for_for_ever():
    world = scaled()
    world.keeper_sleeps = True
    until(world, lambda w: reasons(status(w).conditions).get("Quiesced") == ("False", "Pausing"))
    assert (notes(world), counts(world)) == (PAUSED, {"db": 1, "web": 3})
    assert "ScaledObject web-scaler" in str(status(world).conditions)
    for _ in range(4):
        world.pass_time(2)
        world.step()
        world.reconcile(*RUN)
    assert counts(world) == {"db": 1, "web": 3}
    world.pass_time(PAUSED_WITHIN.total_seconds())
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert (counts(world), notes(world)) == ({"db": 1, "web": 3}, {})


def test_one_that_goes_on_in_the_window_spoils_the_run_and_is_named():
    world = scaled()
    until(world, gone)
    annotate(world, **{KEDA_PAUSED: None})
    world.run(RUN)
    assert outcome(world) == ("False", "Inconsistent")
    assert "Deployment web was started by the field manager keda (KEDA: look who takes" in message(world)
    assert (counts(world), notes(world)) == ({"db": 1, "web": 3}, {})
    assert entry(world).message == f"Left as someone else set it meanwhile: {KEDA_PAUSED}."


def test_one_that_is_deleted_in_the_window_keeps_nothing_any_more():
    world = scaled()
    until(world, gone)
    world.keepers.clear()
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert (counts(world), entry(world).state) == ({"db": 1, "web": 3}, "Gone")


def test_one_that_is_deleted_before_it_is_held_does_not_stop_the_run():
    world = scaled()
    until(world, lambda w: status(w).quiesce is not None)
    world.reconcile(*RUN, crash_after=1)
    world.keepers.clear()
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert counts(world) == {"db": 1, "web": 3}


def test_a_hold_that_a_person_takes_away_is_left_as_it_is():
    world = scaled()
    until(world, gone)
    annotate(world, **{HOLD_ANNOTATION: None})
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert notes(world) == PAUSED
    assert f"{KEDA_PAUSED} is still true" in entry(world).message


def test_a_value_that_could_not_be_put_back_for_sure_is_refused():
    world = scaled({KEDA_PAUSED: "{}"})
    world.run(RUN)
    assert outcome(world) == ("False", "SwitchNotUnderstood")
    assert "ScaledObject web-scaler has the annotation autoscaling.keda.sh/paused" in message(world)
    assert "PatchWorkload" not in world.log


def test_a_run_that_is_failing_pauses_no_more_than_it_stopped():
    world = scaled()
    until(world, lambda w: HELD_LABEL in keeper_of(w).meta.labels)
    world.scale(workload(world, "web"), 5)
    world.run(RUN)
    assert outcome(world) == ("False", "WorkloadChanged")
    assert (counts(world), notes(world), world.held()) == ({"db": 1, "web": 5}, {}, [])


@pytest.mark.parametrize("owner_is_gone", [False, True])
def test_the_release_pod_lets_it_go_on_once_the_counts_are_back(owner_is_gone: bool):
    world = scaled({KEDA_PAUSED: "false"})
    until(world, gone)
    ledger = status(world).quiesce
    assert ledger is not None
    world.now = ledger.deadline + LEAD
    (uid,) = world.watches
    if owner_is_gone:
        world._vanish("Snapshot", "one")
    for _ in range(20):
        world.reconcile("armed", uid)
        assert counts(world)["web"] == 3 or notes(world) == PAUSED, "it goes on before the count is back"
        world.step()
        world.pass_time(5)
    assert (counts(world)["web"], notes(world)) == (3, {KEDA_PAUSED: "false"})
    assert HELD_LABEL not in keeper_of(world).meta.labels


def test_what_a_run_that_is_gone_paused_goes_on_after_its_workload():
    world = scaled()
    until(world, gone)
    world._vanish("Snapshot", "one")
    world.pods.clear()
    world.pass_time(120)
    world.reconcile("orphans")
    assert (counts(world)["web"], notes(world)) == (3, PAUSED), "the counts first"
    for _ in range(4):
        world.step()
        world.reconcile("orphans")
    assert (notes(world), keeper_of(world).meta.labels) == ({}, {})


def test_it_stays_paused_where_a_restore_left_a_volume_half_written():
    world = scaled()
    until(world, gone)
    web = workload(world, "web")
    for found, store in ((web, world.workloads), (keeper_of(world), world.keepers)):
        note = found.meta.annotations[HOLD_ANNOTATION].replace("Snapshot/one", "Restore/one")
        meta = replace(found.meta, annotations={**found.meta.annotations, HOLD_ANNOTATION: note})
        store[meta.uid] = replace(found, meta=meta)  # type: ignore[index, assignment]
    run = Uid(web.meta.labels[HELD_LABEL])
    stamp = Stamp("one", run, "hash", StampState.WRITING)
    claim = world.claims["files"]
    world.claims["files"] = replace(claim, meta=replace(claim.meta, annotations={RESTORED_ANNOTATION: stamp.text()}))
    world._vanish("Snapshot", "one")
    world.pods.clear()
    world.pass_time(120)
    for _ in range(4):
        world.reconcile("orphans")
    assert (counts(world)["web"], notes(world)) == (0, PAUSED)
    assert any(
        "kubectl annotate --overwrite scaledobject/web-scaler -n shop lowtide.dev/hold- autoscaling.keda.sh/paused- && "
        "kubectl label scaledobject/web-scaler -n shop lowtide.dev/held-" in event.message
        for event in world.events
    )


def test_two_runs_at_one_keeper_go_one_after_the_other():
    world = scaled()
    keeper = keeper_of(world)
    world.keepers[keeper.meta.uid] = replace(keeper, targets=frozenset({("Deployment", "web"), ("StatefulSet", "db")}))
    world.add_policy("other", volumes={"claims": ["files"]})
    world.policies["db"] = world.add_policy("db", volumes={"claims": ["data"]})
    world.add_snapshot("two", policyName="other")
    held: list[list[str]] = []
    for _ in range(60):
        world.step()
        for name in ("one", "two"):
            world.reconcile("snapshot", name)
        held.append(world.held())
        world.pass_time(3)
    assert not any({"db", "web"} <= set(now) for now in held)
    assert [world.snapshots[name].status.end_time is not None for name in ("one", "two")] == [True, True]
    assert (counts(world), notes(world)) == ({"db": 1, "web": 3}, {})
