"""Flux: paused for the window by its own annotation on the workload, whatever becomes of the operator, and put back as
it was. Its kustomize-controller is the real one; its helm-controller is played, and both are also played as stubborn as
no real one is."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lowtide_operator.cluster import kinds
from tests.cluster.controlplane import ControlPlane
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.api import Object
from tests.integration.operator_world.flux import KustomizeController, Kustomized, kustomize_controller
from tests.integration.operator_world.pens import Pen
from tests.integration.operator_world.rivals import Rival
from tests.integration.operator_world.world import PATIENCE, World, workload
from tests.programs import NoCompiler

pytestmark = [pytest.mark.apiserver, pytest.mark.late, pytest.mark.timeout(func_only=True)]


@dataclass(frozen=True)
class Flux:
    """One of Flux's controllers: its object, the group of its labels, its field manager, the annotation that pauses
    it. It is played where there is no `controller`."""

    kind: str
    group: str
    manager: str
    switch: str
    controller: KustomizeController | None = None

    def is_paused(self, workload: Object) -> bool:
        return (workload["metadata"].get("annotations") or {}).get(self.switch) == "disabled"

    def declares(self, pen: Pen, annotations: dict[str, str], *, heeds: bool = True) -> Rival | Kustomized:
        """Two replicas of a Deployment with these annotations on the pen's claim: who applies them."""
        body = declared(pen, 2, annotations)
        if self.controller is not None:
            return Kustomized(pen.world.api, self.controller, body)
        namespace, name = pen.world.namespace, pen.name
        body["metadata"]["labels"] = {f"{self.group}/name": name, f"{self.group}/namespace": namespace}
        pen.world.api.create(kinds.DEPLOYMENT, body)
        paused = self.is_paused if heeds else lambda workload: False
        where = (pen.world.api, kinds.DEPLOYMENT, namespace, name, 2)
        return Rival(*where, manager=self.manager, is_paused=paused)


KUSTOMIZE = Flux(
    "Kustomization",
    "kustomize.toolkit.fluxcd.io",
    "kustomize-controller",
    "kustomize.toolkit.fluxcd.io/reconcile",
)
HELM = Flux("HelmRelease", "helm.toolkit.fluxcd.io", "helm-controller", "helm.toolkit.fluxcd.io/driftDetection")


@pytest.fixture(scope="module")
def controller(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KustomizeController]:
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(kustomize_controller(control_plane, tmp_path_factory.mktemp("controller")))
        except NoCompiler as error:
            pytest.skip(f"Flux's kustomize-controller can't be built: {error}")
        yield running


@pytest.fixture(params=["played Kustomization", "played HelmRelease", "real Kustomization"])
def flux(request: pytest.FixtureRequest) -> Flux:
    played, _, kind = request.param.partition(" ")
    if kind == HELM.kind:
        return HELM
    return KUSTOMIZE if played == "played" else real(request.getfixturevalue("controller"))


def real(controller: KustomizeController) -> Flux:
    return Flux(KUSTOMIZE.kind, KUSTOMIZE.group, KUSTOMIZE.manager, KUSTOMIZE.switch, controller)


def declared(pen: Pen, replicas: int, annotations: dict[str, str]) -> Object:
    """What Git says of the pen's Deployment."""
    body = workload(pen.world.namespace, kinds.DEPLOYMENT, pen.name, pen.claim, replicas)
    body["metadata"]["annotations"] = annotations
    return {"apiVersion": kinds.DEPLOYMENT.api_version, "kind": kinds.DEPLOYMENT.kind, **body}


def a_pen(shop: World) -> Pen:
    return Pen.build(shop, f"app-{uuid.uuid4().hex[:8]}")


def annotations(pen: Pen) -> dict[str, str]:
    """Those of the Deployment, without what Kubernetes notes."""
    found: dict[str, str] = pen.get(kinds.DEPLOYMENT)["metadata"].get("annotations") or {}
    return {key: value for key, value in found.items() if not key.startswith("deployment.kubernetes.io/")}


def switch(pen: Pen, flux: Flux, value: str | None) -> None:
    """Set Flux's annotation at the Deployment as a person would."""
    patch: Object = {"metadata": {"annotations": {flux.switch: value}}}
    pen.world.api.patch(kinds.DEPLOYMENT, pen.world.namespace, pen.name, patch)


def assert_puts_back(pen: Pen, other: Rival | Kustomized) -> None:
    """Whoever changes the count, that one puts it back when it looks."""
    pen.scale(kinds.DEPLOYMENT, pen.name, 0)
    other.look()
    assert pen.replicas(kinds.DEPLOYMENT) == 2, "it does not put the count back"
    pen.await_running(kinds.DEPLOYMENT, pen.name, 2)


def await_step(pen: Pen, flux: Flux, count: int) -> None:
    """Wait until the Deployment wants `count`, with Flux paused where that is 0, and still carries a sign of ours."""

    def reached() -> bool:
        body = pen.get(kinds.DEPLOYMENT)
        marked = "lowtide.dev/" in str(body["metadata"].get("annotations"))
        return (body["spec"]["replicas"], flux.is_paused(body), marked) == (count, count == 0, True)

    wait_for(f"it wants {count}", reached, within=PATIENCE, every=0.01, seen=pen.seen)


@pytest.mark.zoo("flux-kustomization", "flux-helmrelease")
@pytest.mark.parametrize(
    ("flux", "value"),
    [
        ("played Kustomization", None),
        ("played HelmRelease", "enabled"),
        ("real Kustomization", None),
        ("real Kustomization", "enabled"),
    ],
    indirect=["flux"],
)
def test_flux_is_paused_for_the_window_although_the_operator_dies_in_it(
    shop: World, flux: Flux, value: str | None
) -> None:
    before = {"note": "x"} if value is None else {"note": "x", flux.switch: value}
    pen = a_pen(shop)
    with flux.declares(pen, before) as other:
        pen.await_running(kinds.DEPLOYMENT, pen.name, 2)
        assert_puts_back(pen, other)
        applied = other.applied

        pen.snapshot()
        await_step(pen, flux, 0)
        shop.operator.kill()
        other.look()
        shop.operator.start()
        pen.await_down()
        for _ in range(3):
            other.look()
            assert pen.replicas(kinds.DEPLOYMENT) == 0
        # The run goes on, and does not end before its operator is killed again: the Deployment is not ready so long.
        shop.kubelet.held_back = lambda pod: pod["metadata"]["labels"].get("app") == pen.name
        await_step(pen, flux, 2)
        shop.operator.kill()
        other.look()
        shop.let_movers_start()
        shop.operator.start()
        status = pen.await_ready()
        assert other.applied == applied, "it put the count back, although its switch was on"

        (entry,) = status["quiesce"]["workloads"]
        assert (entry["state"], entry["replicas"]) == ("Released", 2)
        assert [switch.get("value") for switch in entry["switches"]] == [value]
        pen.await_running(kinds.DEPLOYMENT, pen.name, 2)
        pen.assert_unmarked(kinds.DEPLOYMENT, pen.name)
        assert annotations(pen) == before
        assert_puts_back(pen, other)


def test_one_that_heeds_no_switch_spoils_the_run_and_is_named(shop: World) -> None:
    pen = a_pen(shop)
    heedless = KUSTOMIZE.declares(pen, {}, heeds=False)
    pen.await_running(kinds.DEPLOYMENT, pen.name, 2)
    pen.snapshot()
    pen.await_down()
    with heedless:
        assert_spoiled(pen, KUSTOMIZE, {})


def test_one_whose_switch_somebody_takes_away_in_the_window_spoils_the_run_and_is_named(
    shop: World, flux: Flux
) -> None:
    pen = a_pen(shop)
    with flux.declares(pen, {"note": "x"}) as other:
        pen.await_running(kinds.DEPLOYMENT, pen.name, 2)
        pen.snapshot()
        pen.await_down()
        shop.operator.kill()  # else it sees the annotation go, which is an edit
        switch(pen, flux, None)
        other.look()
        assert pen.replicas(kinds.DEPLOYMENT) == 2
        shop.operator.start()
        assert_spoiled(pen, flux, {"note": "x"})


def assert_spoiled(pen: Pen, flux: Flux, before: dict[str, str]) -> None:
    """The run has failed, says who started the Deployment, and leaves it as that one has it."""
    message = pen.await_failed("Inconsistent")
    assert (
        f"Deployment {pen.name} was started by the field manager {flux.manager} "
        f"(Flux, {flux.kind} {pen.world.namespace}/{pen.name}: " in message
    )
    pen.await_running(kinds.DEPLOYMENT, pen.name, 2)
    pen.assert_unmarked(kinds.DEPLOYMENT, pen.name)
    assert annotations(pen) == before


@pytest.mark.parametrize("suspended", [True, False])
def test_what_a_person_has_paused_stays_paused_and_keeps_that_persons_count(
    shop: World, controller: KustomizeController, suspended: bool
) -> None:
    """The Kustomization, by suspend, or the Deployment, by the very annotation that a run would set."""
    pen = a_pen(shop)
    with Kustomized(shop.api, controller, declared(pen, 2, {})) as other:
        pen.await_running(kinds.DEPLOYMENT, pen.name, 2)
        other.patch({"spec": {"suspend": suspended}})
        switch(pen, KUSTOMIZE, None if suspended else "disabled")
        pen.scale(kinds.DEPLOYMENT, pen.name, 3)
        other.look()
        pen.await_running(kinds.DEPLOYMENT, pen.name, 3)
        notes, kustomization, applied = annotations(pen), other.get(), other.applied

        pen.snapshot()
        pen.await_down()
        shop.let_movers_start()
        pen.await_ready()
        pen.await_running(kinds.DEPLOYMENT, pen.name, 3)
        pen.assert_unmarked(kinds.DEPLOYMENT, pen.name)
        assert annotations(pen) == notes
        assert other.get() == kustomization, "nothing of a Kustomization is ours to change"
        other.look()
        assert (pen.replicas(kinds.DEPLOYMENT), other.applied) == (3, applied)

        other.patch({"spec": {"suspend": False}})
        switch(pen, KUSTOMIZE, None)
        other.look()
        pen.await_running(kinds.DEPLOYMENT, pen.name, 2)


def test_what_git_says_in_the_window_is_applied_at_the_first_reconciliation_after_it(
    shop: World, controller: KustomizeController
) -> None:
    pen = a_pen(shop)
    with Kustomized(shop.api, controller, declared(pen, 2, {})) as other:
        pen.await_running(kinds.DEPLOYMENT, pen.name, 2)
        pen.snapshot()
        pen.await_down()
        other.push(declared(pen, 3, {"note": "new"}))
        assert other.said()[-1] == "skipped"
        assert "note" not in annotations(pen)

        shop.let_movers_start()
        pen.await_ready()
        pen.await_running(kinds.DEPLOYMENT, pen.name, 2)
        pen.assert_unmarked(kinds.DEPLOYMENT, pen.name)
        other.look()
        pen.await_running(kinds.DEPLOYMENT, pen.name, 3)
        assert annotations(pen) == {"note": "new"}


def test_what_git_drops_in_the_window_stays_and_flux_forgets_it(shop: World, controller: KustomizeController) -> None:
    """So does Flux with all that carries its annotation: docs/gitops says what to do about it."""
    pen = a_pen(shop)
    with Kustomized(shop.api, controller, declared(pen, 2, {})) as other:
        pen.await_running(kinds.DEPLOYMENT, pen.name, 2)
        pen.snapshot()
        pen.await_down()
        left = {"metadata": {"name": pen.name, "namespace": shop.namespace}, "data": {"left": "yes"}}
        other.push({"apiVersion": "v1", "kind": "ConfigMap", **left})
        shop.let_movers_start()
        pen.await_ready()
        other.look()
        pen.await_running(kinds.DEPLOYMENT, pen.name, 2)
        assert [entry["id"] for entry in other.get()["status"]["inventory"]["entries"]] == [
            f"{shop.namespace}_{pen.name}__ConfigMap"
        ]
