"""Argo CD, played: paused for the window by its own switch, whatever becomes of the operator, and put back as it was.
And a KEDA that is as stubborn as no real one is."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from lowtide_operator.cluster import kinds
from tests.cluster.controlplane import ControlPlane
from tests.cluster.definitions import define_applications, define_keda
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.movers import Movers, Play
from tests.integration.operator_world.pens import Pen
from tests.integration.operator_world.process import Operator
from tests.integration.operator_world.rivals import (
    ARGOCD,
    PlayedKeda,
    application,
    played_argocd,
    scaled_object,
    tracking_id,
)
from tests.integration.operator_world.world import PATIENCE, World, world

pytestmark = pytest.mark.apiserver

SKIP = "argocd.argoproj.io/skip-reconcile"


@pytest.fixture(scope="module")
def shared(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    define_keda(control_plane.kubectl)
    define_applications(control_plane.kubectl)
    folder = tmp_path_factory.mktemp("rivals")
    with world(control_plane, folder) as made:
        made.api.create(kinds.NAMESPACE, {"metadata": {"name": ARGOCD}})
        made.operator = Operator(
            control_plane.kubeconfig,
            folder / "operator.log",
            made.namespace,
            argocd="Pause",
            argocd_namespaces=ARGOCD,
        )
        made.operator.start()
        yield made


@pytest.fixture
def shop(shared: World) -> Iterator[World]:
    """One namespace, one operator; every test has a pen of its own in it."""
    yield shared
    shared.movers.script = Movers().script


def steps_of(pen: Pen) -> Iterator[str]:
    """The steps of a run with an Application that is paused for it, each as it is reached; one that was passed before
    anyone looked counts as reached."""
    first = generation(pen)
    steps = ("it is paused", "its workload is stopped", "the count is back", "it goes on")
    for number, step in enumerate(steps, start=1):
        wait_for(
            step,
            lambda number=number: step_of(pen, first) >= number,  # type: ignore[misc]
            within=PATIENCE,
            every=0.01,
            seen=pen.seen,
        )
        yield step


def step_of(pen: Pen, first: int) -> int:
    """Which step the run is at; 0 where that can't be told: the workload changed while its Application was read.
    `first` is its generation before the run, and each change of its count makes another."""
    before, notes, after = generation(pen), notes_of(pen), generation(pen)
    if before != after:
        return 0
    paused, changes = notes.get(SKIP) == "true", after - first
    assert paused or changes != 1, "its workload is stopped, and it is not paused"
    return changes + 1 if paused else 2 * changes


def generation(pen: Pen) -> int:
    found: int = pen.get(kinds.DEPLOYMENT)["metadata"]["generation"]
    return found


def notes_of(pen: Pen) -> dict[str, str]:
    """The annotations of the Application that keeps the pen's Deployment."""
    body = pen.world.api.get(kinds.APPLICATION, ARGOCD, f"{pen.name}-scaler") or {}
    found: dict[str, str] = body["metadata"].get("annotations") or {}
    return found


@pytest.mark.zoo("argocd")
def test_argo_cd_is_paused_for_the_window_although_the_operator_dies_at_each_step(shop: World) -> None:
    pen = Pen.build(shop, "synced")
    pen.add(kinds.DEPLOYMENT, replicas=2)
    tracked = {"metadata": {"annotations": tracking_id("synced-scaler", shop.namespace, "synced")}}
    shop.api.patch(kinds.DEPLOYMENT, shop.namespace, "synced", tracked)
    shop.api.create(kinds.APPLICATION, application("synced-scaler", {"note": "x"}))
    pen.backups(lambda words: Play(Movers().result(words, uuid.uuid4().hex), seconds=3))
    with played_argocd(shop.api, shop.namespace, "synced", "synced-scaler", 2) as argocd:
        pen.snapshot()
        for _ in steps_of(pen):
            shop.operator.kill()
            shop.operator.start()
        status = pen.await_ready()
        assert argocd.applied == 0, "it put the count back, although it was paused"
    (entry, _) = status["quiesce"]["workloads"]
    assert (entry["kind"], entry["namespace"], entry["state"]) == ("Application", ARGOCD, "Released")
    pen.await_running(kinds.DEPLOYMENT, "synced", 2)
    pen.assert_unmarked(kinds.DEPLOYMENT, "synced")
    wait_for("it carries no sign of ours", lambda: notes_of(pen) == {"note": "x"}, within=PATIENCE)
    body = shop.api.get(kinds.APPLICATION, ARGOCD, "synced-scaler") or {}
    assert "labels" not in body["metadata"]


@pytest.mark.zoo("argocd-elsewhere")
def test_an_application_that_may_not_be_paused_makes_the_run_refused_before_anything_is_stopped(shop: World) -> None:
    pen = Pen.build(shop, "elsewhere")
    pen.add(kinds.DEPLOYMENT, replicas=2)
    tracked = {"metadata": {"annotations": tracking_id("team_app", shop.namespace, "elsewhere")}}
    shop.api.patch(kinds.DEPLOYMENT, shop.namespace, "elsewhere", tracked)
    generation = pen.get(kinds.DEPLOYMENT)["metadata"]["generation"]
    pen.snapshot()
    assert "Application team/app, and Lowtide may not pause" in pen.await_failed("ArgoCDNotAllowed")
    pen.assert_untouched(kinds.DEPLOYMENT, "elsewhere", generation, 2)


def test_a_keda_that_heeds_no_pause_spoils_the_run_and_is_named(shop: World) -> None:
    pen = Pen.build(shop, "stubborn")
    pen.add(kinds.DEPLOYMENT, replicas=2)
    shop.api.create(kinds.SCALED_OBJECT, scaled_object(shop.namespace, "stubborn-scaler", "stubborn"))
    pen.backups(Play(hang=True))
    with PlayedKeda(shop.api, shop.namespace, "stubborn", 2) as keda:
        pen.snapshot()
        pen.await_down()
        keda.stubborn = True
        message = pen.await_failed("Inconsistent")
    assert "Deployment stubborn was started by the field manager keda (KEDA" in message
    pen.await_running(kinds.DEPLOYMENT, "stubborn", 2)
    pen.assert_unmarked(kinds.SCALED_OBJECT, "stubborn-scaler")
    assert "annotations" not in pen.get(kinds.SCALED_OBJECT, "stubborn-scaler")["metadata"]
