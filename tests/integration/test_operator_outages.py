"""The operator killed, and the API server killed or out of reach, while workloads are down: the run ends well."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.kinds import Kind
from tests.cluster import kubeconfig
from tests.cluster.controlplane import ControlPlane
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.kills import killed_at_every_change
from tests.integration.operator_world.movers import Play, failure
from tests.integration.operator_world.process import Operator
from tests.integration.operator_world.proxy import Proxy
from tests.integration.operator_world.world import PATIENCE, World, world

pytestmark = pytest.mark.apiserver


@pytest.fixture
def shop(control_plane: ControlPlane, tmp_path: Path) -> Iterator[World]:
    with world(control_plane, tmp_path) as made:
        yield made


def test_an_operator_killed_at_every_step_of_a_run_goes_on_where_it_was(shop: World) -> None:
    """SIGKILL whenever the world changed: each new status, hold or Job ends the process that made it."""
    shop.policy()
    shop.snapshot()
    kills = killed_at_every_change(
        shop,
        fingerprint,
        over=lambda: shop.status(kinds.SNAPSHOT, "first").get("endTime"),
        within=240,
    )
    assert kills >= 8
    assert shop.condition(kinds.SNAPSHOT, "first")["status"] == "True"
    shop.operator.start()
    shop.assert_back()
    assert shop.movers.count("backup") == 2


@pytest.mark.parametrize("fails", [False, True], ids=["it is written", "it is rolled back"])
def test_an_operator_killed_at_every_step_of_a_restore_never_starts_a_half_written_volume(
    shop: World, fails: bool
) -> None:
    """With `fails` the first mover that writes fails for good, and the safety snapshot is written back."""
    counts: list[int] = []

    def play(words: list[str], before: int) -> Play | None:
        if words[0] != "restore":
            return None
        counts.append(shop.counts()["db"])
        return failure("restore", "RepositoryDamaged", "a blob is missing") if fails and not before else None

    shop.policy()
    shop.operator.start()
    shop.snapshot()
    shop.await_ready(kinds.SNAPSHOT, "first")
    shop.assert_back()
    shop.operator.kill()
    stored = shop.movers.count("backup")
    shop.movers.script = play
    shop.restore("back", source={"snapshotName": "first"}, volumes=[{"claim": "db-data"}], overwrite="Mirror")
    kills = killed_at_every_change(
        shop,
        lambda shop: fingerprint(shop, kinds.RESTORE, "back"),
        over=lambda: shop.status(kinds.RESTORE, "back").get("endTime"),
        within=300,
    )
    assert kills >= 8
    assert shop.condition(kinds.RESTORE, "back")["status"] == str(not fails)
    assert counts == ([0, 0] if fails else [0]), "each is written once, while nothing runs on it"
    assert shop.movers.count("backup") == stored + 1, "one safety snapshot"
    shop.operator.start(ready=False)
    wait_for("the counts are back", lambda: shop.counts() == shop.wanted_counts(), within=PATIENCE)
    shop.assert_back()


def test_an_operator_killed_for_good_leaves_holds_that_the_next_one_ends(shop: World) -> None:
    shop.policy(quiesce={"timeout": "20s", "maxDowntime": "20s"})
    shop.hold_movers("backup")
    shop.operator.start()
    shop.snapshot()
    wait_for("the workloads are stopped", lambda: shop.counts() == {"web": 0, "db": 0}, within=PATIENCE)
    shop.operator.kill()
    deadline = datetime.fromisoformat(shop.status(kinds.SNAPSHOT, "first")["quiesce"]["deadline"])
    wait_for("its time is over", lambda: datetime.now(UTC) > deadline, within=PATIENCE, every=0.2)
    shop.operator.start()
    ready = shop.await_end(kinds.SNAPSHOT, "first")
    assert ready["status"] == "False"
    shop.assert_back()


def test_workloads_come_back_although_their_snapshot_is_gone(shop: World) -> None:
    shop.policy()
    shop.hold_movers("backup")
    shop.operator.start()
    shop.snapshot()
    wait_for("the workloads are stopped", lambda: shop.counts() == {"web": 0, "db": 0}, within=PATIENCE)
    shop.operator.kill()
    shop.api.patch(kinds.SNAPSHOT, shop.namespace, "first", {"metadata": {"finalizers": None}})
    shop.api.delete(kinds.SNAPSHOT, shop.namespace, "first")
    shop.operator.start()
    wait_for(
        "the counts are back (a hold that is younger than a minute is left alone)",
        lambda: shop.counts() == shop.wanted_counts(),
        within=150,
        every=0.5,
        seen=shop.operator.tail,
    )
    shop.assert_back()


def test_a_run_survives_an_api_server_that_is_killed_for_a_minute(shop: World, control_plane: ControlPlane) -> None:
    shop.policy()
    shop.operator.start()
    shop.snapshot()
    wait_for("the workloads are stopped", lambda: shop.counts() == {"web": 0, "db": 0}, within=PATIENCE)
    control_plane.kill()
    try:
        time.sleep(60)
        assert shop.operator.alive
        assert shop.operator.ask("healthz")[0] == 200, "an API server that is down is not the operator's death"
        assert shop.operator.ask("readyz")[0] == 503
    finally:
        control_plane.restart()
    shop.await_ready(kinds.SNAPSHOT, "first", within=90)
    shop.assert_back()
    wait_for("it is ready again", lambda: shop.operator.ask("readyz")[0] == 200, within=60)


def test_a_run_survives_connections_that_go_silent(shop: World, tmp_path: Path, control_plane: ControlPlane) -> None:
    with behind_proxy(shop, control_plane, tmp_path, inactivity="10") as proxy:
        shop.policy()
        shop.operator.start()
        shop.snapshot()
        wait_for("the workloads are stopped", lambda: shop.counts() == {"web": 0, "db": 0}, within=PATIENCE)
        proxy.silence_those_that_are_open()
        shop.await_ready(kinds.SNAPSHOT, "first", within=90)
        shop.assert_back()
        wait_for("watching works again", lambda: shop.operator.ask("readyz")[0] == 200, within=60)


def test_a_restore_that_writes_keeps_its_workload_down_while_the_api_is_out_of_reach(
    shop: World, tmp_path: Path, control_plane: ControlPlane
) -> None:
    """Nothing comes through from the first write until after the deadline. What then starts working again finds the
    deadline passed and half a volume."""
    written = threading.Event()
    shop.movers.script = lambda words, before: (
        Play(shop.movers.result(words, ""), until=written) if words[0] == "restore" else None
    )
    with behind_proxy(shop, control_plane, tmp_path, inactivity="10") as proxy:
        shop.operator.start()
        shop.restore_until_it_writes(quiesce={"timeout": "45s", "maxDowntime": "45s"})
        with proxy.black_hole():
            time.sleep(46)
            assert shop.operator.ask("readyz")[0] == 503
        shop.policy("another")
        wait_for(
            "it works again",
            lambda: shop.counts()["db"] or shop.condition(kinds.BACKUP_POLICY, "another"),
            within=90,
            seen=shop.operator.tail,
        )
        assert shop.counts()["db"] == 0, "half of its volume is written"
        written.set()
        shop.await_ready(kinds.RESTORE, "back", within=90)
        shop.assert_back()
        assert shop.movers.count("restore") == 1


def test_the_probe_fails_where_writes_get_through_and_the_watch_is_dead(
    shop: World, tmp_path: Path, control_plane: ControlPlane
) -> None:
    with behind_proxy(shop, control_plane, tmp_path, inactivity="600", liveness="5") as proxy:
        shop.operator.start()
        wait_for("the probe is well", lambda: shop.operator.ask("healthz")[0] == 200, within=PATIENCE)
        proxy.silence_those_that_are_open()

        def failed() -> str | None:
            status, said = shop.operator.ask("healthz")
            return said if status == 503 else None

        assert "the watch is dead" in wait_for("the probe fails", failed, within=PATIENCE, seen=shop.operator.tail)


@contextlib.contextmanager
def behind_proxy(shop: World, plane: ControlPlane, folder: Path, **settings: str) -> Iterator[Proxy]:
    """A proxy between the API server and an operator with these settings, which is not started yet."""
    with Proxy("127.0.0.1", plane.port) as proxy:
        path = kubeconfig.write_kubeconfig(
            folder / "proxied.kubeconfig",
            f"https://127.0.0.1:{proxy.port}",
            plane.certificates.authority,
            plane.tokens["admin"],
        )
        shop.operator = Operator(path, folder / "proxied.log", shop.namespace, **settings)
        yield proxy


def fingerprint(shop: World, kind: Kind = kinds.SNAPSHOT, name: str = "first") -> str:
    """How far the run is, for all to see: its conditions, what is held, and which Jobs there are."""
    conditions = shop.status(kind, name).get("conditions") or []
    told = [(entry["type"], entry["status"], entry["reason"]) for entry in conditions]
    jobs = sorted(job["metadata"]["name"] for job in shop.api.list(kinds.JOB, shop.namespace))
    return f"{told} {shop.counts()} {shop.held()} {jobs}"
