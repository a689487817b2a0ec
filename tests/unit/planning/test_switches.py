"""Other controllers are paused for the window by an annotation of theirs, and it is put back exactly as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from lowtide_operator.api.quiesce import Switch
from lowtide_operator.planning.armed import LEAD
from lowtide_operator.planning.naming import HELD_LABEL, HOLD_ANNOTATION, RELEASED_ANNOTATION
from lowtide_operator.planning.orphans import release_command
from lowtide_operator.planning.switches import FLUX_DRIFT, FLUX_RECONCILE, workload_switches
from tests.property.planning_world import Cluster
from tests.unit.planning.runs import RUN, cluster, counts, gone, message, outcome, status, until, workload
from tests.unit.planning.test_orphans import held, hold

KUSTOMIZATION = {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}
RELEASE = {"helm.toolkit.fluxcd.io/name": "shop", "helm.toolkit.fluxcd.io/namespace": "web"}


def declared(labels: Mapping[str, str], annotations: Mapping[str, str]) -> Cluster:
    """A shop whose Deployment carries these."""
    world = cluster()
    web = workload(world, "web")
    world.workloads[web.meta.uid] = replace(web, meta=replace(web.meta, labels=labels, annotations=annotations))
    return world


def notes(world: Cluster) -> dict[str, str]:
    """The annotations of the Deployment, without our own."""
    ours = (HOLD_ANNOTATION, RELEASED_ANNOTATION)
    return {key: value for key, value in workload(world, "web").meta.annotations.items() if key not in ours}


@pytest.mark.parametrize(
    ("labels", "annotations", "wanted"),
    [
        ({}, {}, []),
        ({"kustomize.toolkit.fluxcd.io/name": "apps"}, {}, []),
        (KUSTOMIZATION, {}, [(FLUX_RECONCILE, None)]),
        (KUSTOMIZATION, {FLUX_RECONCILE: "enabled"}, [(FLUX_RECONCILE, "enabled")]),
        (KUSTOMIZATION, {FLUX_RECONCILE: ""}, [(FLUX_RECONCILE, "")]),
        (KUSTOMIZATION, {FLUX_RECONCILE: "disabled"}, []),
        (KUSTOMIZATION, {FLUX_RECONCILE: "Disabled"}, []),
        (RELEASE, {}, [(FLUX_DRIFT, None)]),
        (RELEASE, {FLUX_RECONCILE: "enabled"}, [(FLUX_DRIFT, None)]),
        ({**KUSTOMIZATION, **RELEASE}, {}, [(FLUX_RECONCILE, None), (FLUX_DRIFT, None)]),
    ],
)
def test_what_is_put_on(labels: dict[str, str], annotations: dict[str, str], wanted: list[tuple[str, str | None]]):
    meta = replace(workload(cluster(), "web").meta, labels=labels, annotations=annotations)
    assert workload_switches(meta) == tuple(Switch(annotation=name, value=value) for name, value in wanted)


@pytest.mark.parametrize(
    ("labels", "before", "meanwhile"),
    [
        (KUSTOMIZATION, {}, {FLUX_RECONCILE: "disabled"}),
        (KUSTOMIZATION, {FLUX_RECONCILE: "enabled", "note": "x"}, {FLUX_RECONCILE: "disabled", "note": "x"}),
        (KUSTOMIZATION, {FLUX_RECONCILE: "disabled"}, {FLUX_RECONCILE: "disabled"}),
        (RELEASE, {}, {FLUX_DRIFT: "disabled"}),
        (RELEASE, {FLUX_DRIFT: ""}, {FLUX_DRIFT: "disabled"}),
        ({}, {}, {}),
    ],
)
def test_it_is_on_while_the_count_is_0_and_then_as_it_was(
    labels: dict[str, str], before: dict[str, str], meanwhile: dict[str, str]
):
    world = declared(labels, before)
    until(world, gone)
    assert (counts(world)["web"], notes(world)) == (0, meanwhile)
    ledger = status(world).quiesce
    assert ledger is not None
    (entry,) = [entry for entry in ledger.workloads if entry.name == "web"]
    assert {switch.annotation: switch.value for switch in entry.switches} == {
        key: before.get(key) for key in meanwhile if meanwhile[key] != before.get(key)
    }
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert (counts(world)["web"], notes(world)) == (3, before)


@pytest.mark.parametrize("die_at", range(40))
def test_an_operator_that_dies_at_any_step_leaves_nothing_paused(die_at: int):
    """Count and switch are never seen one without the other."""
    before = {FLUX_RECONCILE: "enabled"}
    world = declared(KUSTOMIZATION, before)
    done = 0
    while (
        status(world).end_time is None or world.held() or RELEASED_ANNOTATION in workload(world, "web").meta.annotations
    ):
        world.step()
        left = die_at - done
        plan = world.reconcile(*RUN, crash_after=left if 0 <= left < 10 else None)
        done += len(plan.actions) + 1
        assert (counts(world)["web"] == 0) == (notes(world) != before), "one without the other"
        world.pass_time(2)
        assert done < 500, "it never ends"
    assert outcome(world) == ("True", "Complete")
    assert (counts(world)["web"], notes(world)) == (3, before)


def test_an_annotation_that_a_person_changed_meanwhile_stays():
    """To a Deployment it is an edit like any other: Kubernetes counts its generation up."""
    world = declared(KUSTOMIZATION, {})
    until(world, gone)
    world.annotate(workload(world, "web"), **{FLUX_RECONCILE: "enabled"})
    world.run(RUN)
    assert outcome(world) == ("False", "Inconsistent")
    assert (counts(world), notes(world)) == ({"db": 1, "web": 3}, {FLUX_RECONCILE: "enabled"})
    ledger = status(world).quiesce
    assert ledger is not None
    assert [entry.message for entry in ledger.workloads if entry.name == "web"] == [
        f"Left as someone else set it meanwhile: {FLUX_RECONCILE}."
    ]


def test_one_who_takes_the_hold_away_is_told_what_is_still_paused():
    world = declared(KUSTOMIZATION, {})
    until(world, gone)
    world.annotate(workload(world, "web"), **{HOLD_ANNOTATION: None})
    web = workload(world, "web")
    world.workloads[web.meta.uid] = replace(web, meta=replace(web.meta, labels=KUSTOMIZATION))
    world.run(RUN)
    assert outcome(world) == ("False", "Inconsistent")
    ledger = status(world).quiesce
    assert ledger is not None
    (entry,) = [entry for entry in ledger.workloads if entry.name == "web"]
    assert f"{FLUX_RECONCILE} is still disabled" in entry.message


def test_a_switch_that_changed_before_the_patch_is_noticed():
    world = declared(KUSTOMIZATION, {})
    until(world, lambda w: status(w).quiesce is not None)
    world.annotate(workload(world, "web"), **{FLUX_RECONCILE: "enabled"})
    world.run(RUN)
    assert outcome(world) == ("True", "Complete"), "the intent was written anew"
    assert notes(world) == {FLUX_RECONCILE: "enabled"}
    world = declared(KUSTOMIZATION, {})
    until(world, lambda w: status(w).quiesce is not None)
    world.reconcile(*RUN, crash_after=1)
    world.annotate(workload(world, "web"), **{FLUX_RECONCILE: "enabled"})
    world.run(RUN)
    assert outcome(world) == ("False", "WorkloadChanged")
    assert (counts(world), notes(world)) == ({"db": 1, "web": 3}, {FLUX_RECONCILE: "enabled"})


def test_a_value_that_could_not_be_put_back_for_sure_is_refused():
    world = declared(KUSTOMIZATION, {FLUX_RECONCILE: 'say "yes"'})
    world.run(RUN)
    assert outcome(world) == ("False", "SwitchNotUnderstood")
    assert FLUX_RECONCILE in message(world)
    assert "PatchWorkload" not in world.log


def test_the_release_pod_puts_it_back():
    world = declared(KUSTOMIZATION, {FLUX_RECONCILE: "enabled"})
    until(world, gone)
    ledger = status(world).quiesce
    assert ledger is not None
    world.now = ledger.deadline + LEAD
    (uid,) = world.watches
    for _ in range(20):
        world.reconcile("armed", uid)
        world.step()
        world.pass_time(5)
    assert (counts(world)["web"], notes(world)) == (3, {FLUX_RECONCILE: "enabled"})


def paused(world: Cluster, *, held_now: bool = True) -> None:
    """A Deployment whose run is gone, with a switch that was not there before."""
    world.add_claim("data")
    web = held(world, by=hold(switches=(Switch(annotation=FLUX_RECONCILE),)))
    labels = web.meta.labels if held_now else {}
    annotations = {**web.meta.annotations, FLUX_RECONCILE: "disabled"}
    if not held_now:
        annotations[RELEASED_ANNOTATION] = "uid-gone.1"
    meta = replace(web.meta, labels=labels, annotations=annotations)
    world.workloads[meta.uid] = replace(web, meta=meta)
    world.pass_time(timedelta(minutes=2).total_seconds())


def test_what_a_run_that_is_gone_paused_goes_on():
    world = Cluster()
    paused(world)
    command = release_command(workload(world, "web"), hold(switches=(Switch(annotation=FLUX_RECONCILE),)))
    assert f"kubectl annotate --overwrite deployment/web -n shop {HOLD_ANNOTATION}- {FLUX_RECONCILE}- && " in command
    world.reconcile("orphans")
    assert (counts(world), notes(world)) == ({"web": 3}, {})
    assert HELD_LABEL not in workload(world, "web").meta.labels


def test_a_switch_that_a_rollback_brought_back_goes_away():
    world = Cluster()
    paused(world, held_now=False)
    world.reconcile("orphans")
    assert (counts(world), notes(world)) == ({"web": 0}, {})
