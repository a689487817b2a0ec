"""The operator against a real API server: backups and restores from the first patch to the last."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lowtide_operator.cluster import kinds
from tests.cluster.controlplane import ControlPlane
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.movers import Movers, Play
from tests.integration.operator_world.world import PATIENCE, World, world

pytestmark = pytest.mark.apiserver


@pytest.fixture
def shop(control_plane: ControlPlane, tmp_path: Path) -> Iterator[World]:
    with world(control_plane, tmp_path) as made:
        made.operator.start()
        yield made


def test_a_snapshot_by_hand_becomes_ready_and_its_workloads_come_back(shop: World) -> None:
    shop.policy()
    shop.snapshot()
    status = shop.await_ready(kinds.SNAPSHOT, "first")
    shop.assert_back()
    assert {volume["claim"]: volume["outcome"] for volume in status["volumes"]} == {
        "web-data": "Stored",
        "db-data": "Stored",
    }
    assert {entry["name"]: entry["state"] for entry in status["quiesce"]["workloads"]} == {
        "web": "Released",
        "db": "Released",
    }
    assert status["verdictSnapshotId"] in shop.movers.stored
    assert shop.operator.rss() < 100 * 2**20, "the operator's memory"


def test_a_restore_in_place_stops_the_workload_takes_a_safety_snapshot_and_starts_it_again(shop: World) -> None:
    shop.policy()
    shop.snapshot()
    shop.await_ready(kinds.SNAPSHOT, "first")
    backups = shop.movers.count("backup")
    shop.restore("back", source={"snapshotName": "first"}, volumes=[{"claim": "db-data"}], overwrite="Mirror")
    status = shop.await_ready(kinds.RESTORE, "back")
    shop.assert_back()
    (volume,) = status["volumes"]
    assert volume["outcome"] == "Stored"
    assert volume["safetySnapshotId"] in shop.movers.stored
    assert shop.movers.count("backup") == backups + 1
    assert [entry["name"] for entry in status["quiesce"]["workloads"]] == ["db"]


def test_a_restore_into_a_new_claim_stops_nothing(shop: World) -> None:
    shop.policy()
    shop.snapshot()
    shop.await_ready(kinds.SNAPSHOT, "first")
    before = shop.pods()
    volume = {"claim": "web-data", "newClaim": {"name": "copy", "size": "20Mi"}}
    shop.restore("copy", source={"policy": {"name": "nightly"}}, volumes=[volume], overwrite="Merge")
    shop.await_ready(kinds.RESTORE, "copy")
    made = shop.api.get(kinds.CLAIM, shop.namespace, "copy")
    assert made is not None
    assert made["spec"]["resources"]["requests"]["storage"] == "20Mi"
    assert shop.pods() == before


def test_a_schedule_makes_a_snapshot_and_runs_it(shop: World) -> None:
    """At one minute of the hour, that follows soon: at every minute a second run could stop the workloads again before
    they are looked at."""
    soon = datetime.now(UTC) + timedelta(seconds=75)
    shop.policy(schedule=f"{soon.minute} * * * *")
    made = wait_for(
        "the schedule makes a Snapshot",
        lambda: shop.api.list(kinds.SNAPSHOT, shop.namespace),
        within=75 + PATIENCE,
        every=0.5,
        seen=lambda: shop.seen(kinds.BACKUP_POLICY, "nightly"),
    )
    name = made[0]["metadata"]["name"]
    assert name.startswith("nightly-")
    assert made[0]["spec"]["origin"] == "Schedule"
    assert "ownerReferences" not in made[0]["metadata"]
    shop.await_ready(kinds.SNAPSHOT, name)
    shop.assert_back()
    wait_for(
        "the policy is Protected",
        lambda: shop.condition(kinds.BACKUP_POLICY, "nightly", "Protected").get("status") == "True",
        within=PATIENCE,
    )


@pytest.mark.parametrize(("policy", "forgets"), [("Delete", 3), ("Retain", 0)])
def test_deleting_a_snapshot_forgets_its_data_only_where_it_says_so(shop: World, policy: str, forgets: int) -> None:
    shop.policy()
    shop.snapshot(deletionPolicy=policy)
    shop.await_ready(kinds.SNAPSHOT, "first")
    shop.api.delete(kinds.SNAPSHOT, shop.namespace, "first")
    shop.await_gone(kinds.SNAPSHOT, "first")
    assert len(shop.movers.forgotten) == forgets
    assert len(shop.movers.stored) == 3 - forgets


def test_deleting_a_snapshot_in_the_middle_of_its_run_brings_the_workloads_back_first(shop: World) -> None:
    shop.movers.script = lambda words, before: Play(hang=True) if words[0] == "backup" else None
    shop.policy()
    shop.snapshot()
    wait_for("movers run", lambda: shop.movers.count("backup") == 2, within=PATIENCE, seen=shop.operator.tail)
    assert shop.counts() == {"web": 0, "db": 0}
    shop.api.delete(kinds.SNAPSHOT, shop.namespace, "first")
    shop.await_gone(kinds.SNAPSHOT, "first")
    assert shop.counts() == shop.wanted_counts()
    shop.assert_back()


def test_deleting_the_policy_in_the_middle_of_a_run_changes_nothing_for_it(shop: World) -> None:
    shop.movers.script = lambda words, before: slow(words) if words[0] == "backup" else None
    shop.policy()
    shop.snapshot()
    wait_for("movers run", lambda: shop.movers.count("backup") == 2, within=PATIENCE, seen=shop.operator.tail)
    shop.api.delete(kinds.BACKUP_POLICY, shop.namespace, "nightly")
    shop.await_ready(kinds.SNAPSHOT, "first")
    shop.assert_back()


def test_a_namespace_that_another_installation_holds_is_left_alone(control_plane: ControlPlane, tmp_path: Path) -> None:
    with world(control_plane, tmp_path) as made:
        spec = {"holderIdentity": "other/lowtide", "leaseDurationSeconds": 3600, "renewTime": micro_now()}
        made.api.create(kinds.LEASE, {"metadata": {"name": "lowtide", "namespace": made.namespace}, "spec": spec})
        made.operator.start()
        made.policy()
        made.snapshot()
        wait_for("it is said in the log", lambda: "other/lowtide holds it" in made.operator.text(), within=PATIENCE)
        assert made.status(kinds.SNAPSHOT, "first") == {}
        made.api.patch(kinds.LEASE, made.namespace, "lowtide", {"spec": {"holderIdentity": ""}})
        made.operator.stop()
        made.operator.start()
        made.await_ready(kinds.SNAPSHOT, "first")


def test_the_operator_ends_in_order_and_at_once_when_it_is_told_to(shop: World) -> None:
    shop.policy()
    began = time.monotonic()
    assert shop.operator.stop() == 0
    assert time.monotonic() - began < 10
    assert "ended in order" in shop.operator.text()


def slow(words: list[str]) -> Play:
    """A mover that takes a while and does what it should."""
    return Play(Movers().result(words, uuid.uuid4().hex), seconds=2)


def micro_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
