"""Where movers go: to the node that holds the volume, past its taints, and else apart from each other."""

from dataclasses import replace
from typing import Any

import pytest

from lowtide_operator.api.mover import CopiedToleration
from lowtide_operator.planning.actions import MoverJob, Placement, Purpose
from lowtide_operator.planning.movers import consumer_tolerations, spread
from lowtide_operator.planning.observed import World
from tests.property.planning_world import Cluster
from tests.unit.planning.restores import RUN as RESTORE
from tests.unit.planning.runs import RUN, cluster, status, until

STORAGE = {"key": "storage", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
TAINTED = CopiedToleration(key="storage", operator="Equal", value="true", effect="NoSchedule")
LOST = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
MANY = Placement(required_terms=({"matchExpressions": []},))


def movers(world: Cluster, purpose: Purpose) -> list[MoverJob]:
    return [mover.job for mover in world.movers.values() if mover.job.purpose is purpose]


def tolerant(world: Cluster, *tolerations: dict[str, Any]) -> None:
    """Give every pod, and every workload's template, these tolerations."""
    for pod in list(world.pods.values()):
        world.pods[pod.meta.uid] = replace(pod, tolerations=tolerations)
    for workload in list(world.workloads.values()):
        world.workloads[workload.meta.uid] = replace(workload, tolerations=tolerations)


@pytest.mark.parametrize(
    ("pod", "template", "expected"),
    [
        pytest.param((STORAGE,), (), (TAINTED,), id="those of the pod"),
        pytest.param((), (STORAGE,), (), id="the pod counts, and not its template"),
        pytest.param(None, (STORAGE,), (TAINTED,), id="no pod: those of the template"),
        pytest.param((LOST, STORAGE), (), (TAINTED,), id="what every pod has for a lost node is left out"),
        pytest.param(({"operator": "Exists"},), (), (CopiedToleration(operator="Exists"),), id="all taints"),
        pytest.param(
            ({"key": "load", "operator": "Lt", "value": "5", "later": 1},),
            (),
            (CopiedToleration(key="load", operator="Lt", value="5"),),
            id="an operator of a newer Kubernetes",
        ),
        pytest.param(None, None, (), id="nobody uses it"),
    ],
)
def test_whose_tolerations_movers_take(
    pod: tuple[dict[str, Any], ...] | None,
    template: tuple[dict[str, Any], ...] | None,
    expected: tuple[CopiedToleration, ...],
) -> None:
    world = cluster(snapshot=False)
    found = next(pod for pod in world.pods.values() if "data" in pod.claims)
    user = next(workload for workload in world.workloads.values() if "data" in workload.claims)
    seen = World(
        "shop",
        pods=() if pod is None else (replace(found, tolerations=pod),),
        workloads=() if template is None else (replace(user, tolerations=template, identity=found.identity),),
    )
    assert consumer_tolerations("data", seen) == expected


def test_the_taints_of_a_volumes_node_are_borne_from_the_start_of_a_run_to_its_end() -> None:
    world = cluster(snapshot=False)
    tolerant(world, LOST, STORAGE)
    world.add_snapshot()
    until(world, lambda w: status(w).resolved is not None)
    tolerant(world)
    until(world, lambda w: movers(w, Purpose.BACKUP))
    assert {job.tolerations for job in movers(world, Purpose.BACKUP)} == {(TAINTED,)}


def test_a_restore_bears_the_taints_that_the_user_of_the_volume_bore_at_the_backup() -> None:
    world = cluster(snapshot=False)
    tolerant(world, STORAGE)
    world.add_snapshot()
    world.run(RUN)
    world.pods.clear()
    world.workloads.clear()
    world.wanted.clear()
    world.add_restore(volumes=[{"claim": "data", "newClaim": {"name": "copy"}}])
    for _ in range(60):
        if movers(world, Purpose.RESTORE):
            break
        world.step()
        world.reconcile(*RESTORE)
        world.pass_time(2)
    (job,) = movers(world, Purpose.RESTORE)
    assert job.tolerations == (TAINTED,)


@pytest.mark.parametrize(
    ("place", "count", "expected"),
    [
        pytest.param(Placement(), 2, True, id="nothing says where"),
        pytest.param(Placement(), 1, False, id="it is alone"),
        pytest.param(Placement(required_nodes=("a",)), 2, False, id="its volume is held on a node"),
        pytest.param(Placement(preferred_nodes=("a",)), 2, False, id="its volume is used on a node"),
        pytest.param(MANY, 2, True, id="its volume can be reached from many nodes"),
    ],
)
def test_movers_that_nothing_pins_go_apart(place: Placement, count: int, expected: bool) -> None:
    assert spread(place, count) == replace(place, spread=expected)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        pytest.param({}, {True}, id="a group"),
        pytest.param({"volumes": {"claims": ["data"]}}, {False}, id="one volume"),
        pytest.param(
            {"repository": {"secretName": "repo", "claimName": "vault"}, "volumes": {"claims": ["data", "files"]}},
            {False},
            id="one after the other, where the repository is on one node",
        ),
    ],
)
def test_the_movers_of_a_group_go_apart(policy: dict[str, Any], expected: set[bool]) -> None:
    world = cluster(snapshot=False, **policy)
    world.add_claim("vault")
    world.add_snapshot()
    until(world, lambda w: movers(w, Purpose.BACKUP))
    assert {job.placement.spread for job in movers(world, Purpose.BACKUP)} == expected
