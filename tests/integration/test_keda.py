"""KEDA, the real one: paused for the window by its own annotation on the ScaledObject, whatever becomes of the
operator, and put back as it was."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import pytest

from lowtide_operator.cluster import kinds
from tests.cluster.controlplane import ControlPlane
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.api import Object
from tests.integration.operator_world.keda import Keda, Scaled, running_keda
from tests.integration.operator_world.pens import Pen
from tests.integration.operator_world.world import PATIENCE, World
from tests.programs import NoCompiler

pytestmark = [pytest.mark.apiserver, pytest.mark.late, pytest.mark.timeout(func_only=True)]

PAUSED = "autoscaling.keda.sh/paused"
PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
PAUSED_SCALE_IN = "autoscaling.keda.sh/paused-scale-in"

SHORT = {"timeout": "40s", "maxDowntime": "40s"}
LATE = 40 + 10 + PATIENCE


@pytest.fixture(scope="module")
def keda(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keda]:
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(running_keda(control_plane, tmp_path_factory.mktemp("keda")))
        except NoCompiler as error:
            pytest.skip(f"KEDA can't be built: {error}")
        yield running


def a_pen(shop: World, count: int = 2, **policy: object) -> Pen:
    """A Deployment of so many replicas on a claim."""
    pen = Pen.build(shop, f"app-{uuid.uuid4().hex[:8]}", **policy)
    pen.add(kinds.DEPLOYMENT, replicas=count)
    return pen


def assert_puts_back(pen: Pen, scaled: Scaled) -> None:
    """Whoever takes the Deployment to 0, KEDA takes it back to 2."""
    pen.scale(kinds.DEPLOYMENT, pen.name, 0)
    scaled.await_count(2)
    pen.await_running(kinds.DEPLOYMENT, pen.name, 2)


def assert_stays(pen: Pen, keda: Keda, count: int) -> None:
    """KEDA leaves the Deployment at this count, although it polls."""
    keda.look()
    assert pen.replicas(kinds.DEPLOYMENT) == count


def assert_as_before(pen: Pen, scaled: Scaled, annotations: dict[str, str], autoscaler: Object | None) -> None:
    """Neither the Deployment nor the ScaledObject carries a sign of ours, and KEDA does what it did."""
    pen.assert_unmarked(kinds.DEPLOYMENT, pen.name)
    pen.assert_unmarked(kinds.SCALED_OBJECT, scaled.name)
    assert scaled.annotations() == annotations
    wait_for("KEDA has its autoscaler again", lambda: scaled.autoscaler() == autoscaler, within=PATIENCE)


@pytest.mark.zoo("keda")
@pytest.mark.parametrize(
    "before", [{}, {PAUSED: "false", "note": "x"}, {PAUSED_SCALE_IN: "true"}], ids=["plain", "not paused", "scale-in"]
)
def test_keda_is_paused_for_the_window_although_the_operator_dies_at_each_step(
    shop: World, keda: Keda, before: dict[str, str]
) -> None:
    """Its pause comes before the count, and goes after it."""
    pen = a_pen(shop)
    with Scaled(shop.api, keda, shop.namespace, pen.name, annotations=before) as scaled:
        assert_puts_back(pen, scaled)
        autoscaler = scaled.autoscaler()
        assert autoscaler is not None

        pen.snapshot()
        scaled.await_count(0)
        shop.operator.kill()
        assert_stays(pen, keda, 0)
        assert scaled.autoscaler() is None
        shop.operator.start()
        pen.await_down()
        assert_stays(pen, keda, 0)
        shop.let_movers_start()
        scaled.await_count(2)
        shop.operator.kill()
        shop.operator.start()
        goes_on = f"the annotation is {before.get(PAUSED)} again"
        wait_for(goes_on, lambda: scaled.annotations().get(PAUSED) == before.get(PAUSED), within=PATIENCE, every=0.01)
        shop.operator.kill()
        shop.operator.start()
        status = pen.await_ready()

        keeper, entry = status["quiesce"]["workloads"]
        assert (keeper["kind"], keeper["state"]) == ("ScaledObject", "Released")
        assert [(s["annotation"], s.get("value")) for s in keeper["switches"]] == [(PAUSED, before.get(PAUSED))]
        assert (entry["kind"], entry["state"], entry["replicas"]) == ("Deployment", "Released", 2)
        pen.await_running(kinds.DEPLOYMENT, pen.name, 2)
        assert_as_before(pen, scaled, before, autoscaler)
        assert_puts_back(pen, scaled)


@pytest.mark.parametrize("before", [{}, {PAUSED_SCALE_IN: "true"}], ids=["plain", "scale-in"])
def test_nothing_is_stopped_before_keda_says_that_it_is_paused(shop: World, keda: Keda, before: dict[str, str]) -> None:
    """Where a person has paused one direction, it says so all the time."""
    pen = a_pen(shop)
    with Scaled(shop.api, keda, shop.namespace, pen.name, annotations=before) as scaled:
        keda.freeze()
        try:
            pen.snapshot()
            pen.await_quiesced("Pausing", f"ScaledObject {scaled.name}")
            shop.operator.kill()
            assert (scaled.annotations()[PAUSED], pen.replicas(kinds.DEPLOYMENT)) == ("true", 2)
        finally:
            keda.thaw()
        shop.operator.start()
        pen.await_down()
        shop.let_movers_start()
        pen.await_ready()
        assert_puts_back(pen, scaled)


def test_one_that_somebody_lets_go_on_in_the_window_spoils_the_run_and_is_named(shop: World, keda: Keda) -> None:
    pen = a_pen(shop)
    with Scaled(shop.api, keda, shop.namespace, pen.name) as scaled:
        pen.snapshot()
        pen.await_down()
        scaled.annotate({PAUSED: None})
        message = pen.await_failed("Inconsistent")
        assert f"Deployment {pen.name} was started by the field manager keda (KEDA" in message
        pen.await_running(kinds.DEPLOYMENT, pen.name, 2)
        pen.assert_unmarked(kinds.SCALED_OBJECT, scaled.name)
        assert scaled.annotations() == {}


@pytest.mark.parametrize(
    ("paused", "count"),
    [({PAUSED: "true"}, 3), ({PAUSED_REPLICAS: "3"}, 3), ({PAUSED: "true", PAUSED_REPLICAS: "0"}, 0)],
    ids=["paused", "paused at 3", "paused at 0"],
)
def test_what_a_person_has_paused_stays_paused_and_keeps_that_persons_count(
    shop: World, keda: Keda, paused: dict[str, str], count: int
) -> None:
    pen = a_pen(shop)
    with Scaled(shop.api, keda, shop.namespace, pen.name) as scaled:
        assert_puts_back(pen, scaled)
        scaled.annotate(paused)
        wait_for("it is paused", lambda: scaled.says("Paused"), within=PATIENCE, seen=keda.tail)
        if PAUSED_REPLICAS not in paused:
            pen.scale(kinds.DEPLOYMENT, pen.name, count)
        scaled.await_count(count)
        pen.await_running(kinds.DEPLOYMENT, pen.name, count)

        pen.snapshot()
        pen.await_down()
        assert_stays(pen, keda, 0)
        shop.let_movers_start()
        pen.await_ready()
        pen.await_running(kinds.DEPLOYMENT, pen.name, count)
        assert_as_before(pen, scaled, paused, None)
        assert_stays(pen, keda, count)

        scaled.annotate(dict.fromkeys(paused))
        assert_puts_back(pen, scaled)


def test_work_that_comes_in_the_window_waits_for_its_end_where_keda_had_scaled_to_zero(shop: World, keda: Keda) -> None:
    pen = a_pen(shop, count=1)
    with Scaled(shop.api, keda, shop.namespace, pen.name, least=0, work=0) as scaled:
        scaled.await_count(0)
        scaled.work(1)
        scaled.await_count(1)
        scaled.work(0)
        scaled.await_count(0)
        pen.await_running(kinds.DEPLOYMENT, pen.name, 0)
        autoscaler = scaled.autoscaler()

        pen.snapshot()
        pen.await_down()
        scaled.work(1)
        assert_stays(pen, keda, 0)
        shop.let_movers_start()
        status = pen.await_ready()
        assert [entry.get("replicas") for entry in status["quiesce"]["workloads"]] == [None, 0]
        scaled.await_count(1)
        assert_as_before(pen, scaled, {}, autoscaler)


def test_the_release_pod_lets_keda_go_on_where_the_operator_is_dead_for_good(shop: World, keda: Keda) -> None:
    pen = a_pen(shop, quiesce=SHORT)
    with Scaled(shop.api, keda, shop.namespace, pen.name, annotations={PAUSED: "false"}) as scaled:
        assert_puts_back(pen, scaled)
        autoscaler = scaled.autoscaler()
        pen.snapshot()
        pen.await_down()
        shop.operator.kill()
        pod = shop.release_pod(kinds.SNAPSHOT, pen.name)
        try:
            assert_stays(pen, keda, 0)
            pod.start()
            wait_for("the count is back", lambda: pen.replicas(kinds.DEPLOYMENT) == 2, within=LATE, seen=pod.text)
            wait_for("it goes on", lambda: scaled.annotations()[PAUSED] == "false", within=PATIENCE, seen=pod.text)
            assert_puts_back(pen, scaled)
        finally:
            pod.kill()
            shop.operator.start()
        pen.await_failed("MaxDowntimeExceeded")
        assert_as_before(pen, scaled, {PAUSED: "false"}, autoscaler)


def test_keda_is_paused_while_a_restore_writes_in_place(shop: World, keda: Keda) -> None:
    pen = a_pen(shop)
    shop.hold_movers("restore")
    with Scaled(shop.api, keda, shop.namespace, pen.name) as scaled:
        pen.snapshot()
        pen.await_ready()
        assert_puts_back(pen, scaled)
        autoscaler = scaled.autoscaler()
        shop.restore(pen.name, source={"snapshotName": pen.name}, volumes=[{"claim": pen.claim}], overwrite="Mirror")
        scaled.await_count(0)
        assert_stays(pen, keda, 0)
        assert scaled.annotations()[PAUSED] == "true"
        shop.let_movers_start()
        status = shop.await_ready(kinds.RESTORE, pen.name)
        assert [entry["state"] for entry in status["quiesce"]["workloads"]] == ["Released", "Released"]
        pen.await_running(kinds.DEPLOYMENT, pen.name, 2)
        assert_as_before(pen, scaled, {}, autoscaler)
        assert_puts_back(pen, scaled)
