"""Argo CD: which Application a workload belongs to, when it is paused, and when the run is refused instead."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lowtide_operator.planning.allowed import ArgoMode
from lowtide_operator.planning.argocd import TRACKING, application_of
from lowtide_operator.planning.naming import HELD_LABEL, HOLD_ANNOTATION, RELEASED_ANNOTATION, RUN_NAMESPACE_LABEL
from lowtide_operator.planning.observed import Keeper, Owner, Uid
from lowtide_operator.planning.switches import ARGO_SKIP
from lowtide_operator.reconcile import keepers, parse
from tests.property.planning_world import Cluster
from tests.unit.planning.runs import RUN, cluster, counts, gone, message, outcome, status, until, workload
from tests.unit.planning.test_keepers import keeper_of, notes

ID = "web-app:apps/Deployment:shop/web"


def argo(*, mode: ArgoMode = ArgoMode.PAUSE, tracking: str = ID, applied: bool = True, **keeper: Any) -> Cluster:
    """A shop whose Deployment is applied by Argo CD, from an Application in another namespace."""
    world = cluster()
    world.argocd = mode
    web = workload(world, "web")
    meta = replace(web.meta, annotations={TRACKING: tracking})
    world.workloads[web.meta.uid] = replace(web, meta=meta, applied_count=applied)
    if mode is ArgoMode.PAUSE:
        made = world.add_keeper("web-app", ("Deployment", "web"), **keeper.pop("annotations", {}))
        meta = replace(made.meta, namespace="argocd", **keeper)
        world.keepers[meta.uid] = Keeper("argoproj.io/v1alpha1", "Application", meta, made.targets, paused=True)
    return world


@pytest.mark.parametrize(
    ("tracking", "application"),
    [
        ("", None),
        ("web-app", None),
        (ID, ("argocd", "web-app")),
        ("team_web-app:apps/Deployment:shop/web", ("team", "web-app")),
        ("web-app:apps/Deployment:shop/other", None),
        ("web-app:apps/Deployment:other/web", None),
        ("web-app:apps/StatefulSet:shop/web", None),
        (":apps/Deployment:shop/web", None),
    ],
)
def test_whose_a_workload_is(tracking: str, application: tuple[str, str] | None):
    web = workload(argo(tracking=tracking), "web")
    assert application_of(web, ("argocd", "team")) == application


@pytest.mark.parametrize(
    ("mode", "tracking", "applied", "reason"),
    [
        (ArgoMode.REFUSE, ID, True, "ArgoCDNotAllowed"),
        (ArgoMode.REFUSE, ID, False, "Complete"),
        (ArgoMode.REFUSE, "web-app:apps/Deployment:shop/other", True, "Complete"),
        (ArgoMode.IGNORE, ID, True, "Complete"),
        (ArgoMode.PAUSE, ID, True, "Complete"),
        (ArgoMode.PAUSE, "team_web-app:apps/Deployment:shop/web", True, "ArgoCDNotAllowed"),
    ],
)
def test_who_may_not_pause_it_is_refused_before_anything_is_stopped(
    mode: ArgoMode, tracking: str, applied: bool, reason: str
):
    world = argo(mode=mode, tracking=tracking, applied=applied)
    world.run(RUN)
    assert outcome(world)[1] == reason
    assert ("PatchWorkload" in world.log) == (reason == "Complete")
    if reason != "Complete":
        assert "Deployment web" in message(world)
        assert "argocd." in message(world), "it says which value of the chart allows it"


def test_its_application_is_paused_first_goes_on_last_and_is_then_as_it_was():
    world = argo(annotations={ARGO_SKIP: "false"})
    until(world, lambda w: HELD_LABEL in keeper_of(w).meta.labels)
    assert counts(world) == {"db": 1, "web": 3}
    assert keeper_of(world).meta.labels[RUN_NAMESPACE_LABEL] == "shop"
    until(world, gone)
    assert notes(world) == {ARGO_SKIP: "true"}
    until(world, lambda w: notes(w) == {ARGO_SKIP: "false"})
    assert counts(world) == {"db": 1, "web": 3}
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    ledger = status(world).quiesce
    assert ledger is not None
    assert (ledger.workloads[0].kind, ledger.workloads[0].namespace) == ("Application", "argocd")
    assert keeper_of(world).meta.labels == {}
    assert not {HOLD_ANNOTATION, RELEASED_ANNOTATION} & set(keeper_of(world).meta.annotations)


def test_one_that_is_paused_already_is_left_alone():
    world = argo(annotations={ARGO_SKIP: "true"})
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert notes(world) == {ARGO_SKIP: "true"}


def test_an_application_set_would_take_the_pause_away_so_it_is_refused():
    owner = Owner("argoproj.io/v1alpha1", "ApplicationSet", "all", Uid("set"), True)
    world = argo(owners=(owner,))
    world.run(RUN)
    assert outcome(world) == ("False", "ApplicationManaged")
    assert "ApplicationSet all" in message(world)
    assert "PatchWorkload" not in world.log


def test_what_a_run_that_is_gone_paused_elsewhere_goes_on_and_is_not_found_any_more():
    world = argo()
    until(world, gone)
    world._vanish("Snapshot", "one")
    world.pods.clear()
    world.pass_time(120)
    for _ in range(4):
        world.reconcile("orphans")
        world.step()
    assert (counts(world)["web"], notes(world), keeper_of(world).meta.labels) == (3, {}, {})


HEALS = {"automated": {"selfHeal": True}}
RESPECT = {**HEALS, "syncOptions": ["CreateNamespace=true", "RespectIgnoreDifferences=true"]}
REPLICAS = {"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"]}


@pytest.mark.parametrize(
    ("spec", "keeps"),
    [
        ({}, False),
        ({"syncPolicy": {}}, False),
        ({"syncPolicy": {"automated": {}}}, False),
        ({"syncPolicy": {"automated": {"prune": True}}}, False),
        ({"syncPolicy": HEALS}, True),
        ({"syncPolicy": {"automated": {"selfHeal": True, "enabled": False}}}, False),
        ({"syncPolicy": {"automated": {"selfHeal": True, "enabled": True}}}, True),
        ({"syncPolicy": HEALS, "ignoreDifferences": [REPLICAS]}, True),
        ({"syncPolicy": RESPECT, "ignoreDifferences": [REPLICAS]}, False),
        ({"syncPolicy": RESPECT, "ignoreDifferences": [{**REPLICAS, "kind": "StatefulSet"}]}, True),
        ({"syncPolicy": RESPECT, "ignoreDifferences": [{**REPLICAS, "group": "*", "kind": "*"}]}, False),
        ({"syncPolicy": RESPECT, "ignoreDifferences": [{**REPLICAS, "name": "other"}]}, True),
        ({"syncPolicy": RESPECT, "ignoreDifferences": [{**REPLICAS, "namespace": "shop", "name": "web"}]}, False),
        ({"syncPolicy": RESPECT, "ignoreDifferences": [{**REPLICAS, "jsonPointers": ["/spec/template"]}]}, True),
        (
            {
                "syncPolicy": RESPECT,
                "ignoreDifferences": [{"group": "apps", "kind": "Deployment", "jqPathExpressions": [".spec.replicas"]}],
            },
            False,
        ),
    ],
)
def test_which_applications_put_a_count_back(spec: dict[str, Any], keeps: bool):
    web = workload(argo(), "web")
    keeper = keepers.application(application(spec), [web])
    assert keeper.targets == ({("Deployment", "web")} if keeps else set())


@pytest.mark.parametrize(
    ("more", "idle"),
    [
        ({}, True),
        ({"operation": {"sync": {}}}, False),
        ({"status": {"operationState": {"phase": "Running"}}}, False),
        ({"status": {"operationState": {"phase": "Succeeded"}}}, True),
    ],
)
def test_a_sync_that_runs_is_waited_for(more: dict[str, Any], idle: bool):
    assert keepers.application({**application({}), **more}, []).paused is idle


def application(spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"namespace": "argocd", "name": "web-app", "uid": "u", "resourceVersion": "1"}
    metadata["creationTimestamp"] = "2026-01-05T02:00:00Z"
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    ("applied", "managers", "found"),
    [
        (None, {}, False),
        ({"spec": {"replicas": 2}}, {}, True),
        ({"spec": {"template": {}}}, {}, False),
        (None, {"argocd-controller": "f:replicas"}, True),
        (None, {"argocd-controller": "f:template", "kubectl": "f:replicas"}, False),
        (None, {"kubectl": "f:replicas"}, False),
    ],
)
def test_whether_argo_cd_applies_a_count(applied: dict[str, Any] | None, managers: dict[str, str], found: bool):
    body = {**application({"replicas": 1}), "kind": "Deployment", "apiVersion": "apps/v1"}
    notes = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(applied)} if applied else {}
    fields = [{"manager": name, "fieldsV1": {"f:spec": {field: {}}}} for name, field in managers.items()]
    body["metadata"] = {**body["metadata"], "annotations": notes, "managedFields": fields}
    assert parse.workload(body).applied_count is found
