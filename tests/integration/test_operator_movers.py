"""Movers that fail, hang, run out of memory or lose their pod: a clear reason, and workloads that run again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.planning.naming import PURPOSE_LABEL
from tests.cluster.controlplane import ControlPlane
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.movers import Play, failure
from tests.integration.operator_world.world import PATIENCE, World, world

pytestmark = pytest.mark.apiserver

OOM = Play(oom=True)
ONCE = {"retry": {"limit": 0, "backoff": "1s"}}


@pytest.fixture
def shop(control_plane: ControlPlane, tmp_path: Path) -> Iterator[World]:
    with world(control_plane, tmp_path) as made:
        made.operator.start()
        yield made


def test_a_wrong_password_fails_the_run_before_anything_is_stopped(shop: World) -> None:
    refused = failure("preflight", "WrongPassword", "No key of the repository opens with RESTIC_PASSWORD.")
    shop.movers.script = lambda words, before: refused if words[0] == "preflight" else None
    before = shop.pods()
    shop.policy()
    shop.snapshot()
    ready = shop.await_end(kinds.SNAPSHOT, "first")
    assert (ready["status"], ready["reason"]) == ("False", "WrongPassword")
    assert "RESTIC_PASSWORD" in ready["message"]
    assert shop.pods() == before


def test_a_mover_that_fails_for_a_reason_that_stays_fails_the_run_and_workloads_come_back(shop: World) -> None:
    full = failure("backup", "StorageFull", "The bucket's quota is used up.")
    shop.movers.script = lambda words, before: full if words[0] == "backup" else None
    shop.policy()
    shop.snapshot()
    ready = shop.await_end(kinds.SNAPSHOT, "first")
    assert (ready["status"], ready["reason"]) == ("False", "StorageFull")
    assert shop.condition(kinds.SNAPSHOT, "first", "Stalled")["status"] == "True"
    shop.assert_back()
    assert shop.movers.count("verdict") == 0


def test_a_mover_that_fails_for_a_reason_that_passes_is_tried_again_within_the_run(shop: World) -> None:
    broken = failure("backup", "StorageUnreachable", "The connection was reset.")
    shop.movers.script = lambda words, before: broken if words[0] == "backup" and before == 0 else None
    shop.policy()
    shop.snapshot()
    shop.await_ready(kinds.SNAPSHOT, "first")
    shop.assert_back()
    assert shop.movers.count("backup") == 3


def test_a_mover_that_hangs_is_ended_at_max_downtime_and_workloads_come_back(shop: World) -> None:
    shop.movers.script = lambda words, before: Play(hang=True) if words[0] == "backup" else None
    shop.policy(quiesce={"timeout": "20s", "maxDowntime": "20s"})
    shop.snapshot()
    ready = shop.await_end(kinds.SNAPSHOT, "first", within=90)
    assert ready["status"] == "False"
    assert ready["reason"] in ("MaxDowntimeExceeded", "TooLong"), ready
    shop.assert_back()


def test_a_mover_out_of_memory_says_so_with_its_limit(shop: World) -> None:
    shop.movers.script = lambda words, before: OOM if words[0] == "backup" else None
    shop.policy(mover={**ONCE, "resources": {"limits": {"memory": "64Mi"}}})
    shop.snapshot()
    ready = shop.await_end(kinds.SNAPSHOT, "first")
    assert (ready["status"], ready["reason"]) == ("False", "OutOfMemory")
    assert "64Mi" in ready["message"]
    shop.assert_back()


def test_a_mover_whose_pod_vanished_is_looked_up_and_what_it_stored_is_adopted(shop: World) -> None:
    shop.movers.script = lambda words, before: Play(vanish=True) if words[0] == "backup" and before == 0 else None
    shop.policy()
    shop.snapshot()
    status = shop.await_ready(kinds.SNAPSHOT, "first")
    shop.assert_back()
    assert shop.movers.count("snapshots") == 1
    assert shop.movers.count("backup") == 2, "what was stored was found: nothing is stored twice"
    assert {volume["snapshotId"] for volume in status["volumes"]} <= set(shop.movers.stored)


def test_a_pod_that_is_slow_to_go_delays_the_capture_and_not_more(shop: World) -> None:
    """Movers are held back meanwhile: else the run could be over before anyone looks."""
    shop.hold_movers("backup")
    shop.kubelet.linger = 4.0
    shop.policy()
    shop.snapshot()
    wait_for(
        "a mover is asked for",
        lambda: shop.api.list(kinds.JOB, shop.namespace, f"{PURPOSE_LABEL}=backup"),
        within=PATIENCE,
        every=0.01,
        seen=shop.operator.tail,
    )
    assert shop.pods() == set(), "a mover started while a pod still had the volume"
    assert shop.counts() == {"web": 0, "db": 0}
    shop.kubelet.linger = 0.0
    shop.let_movers_start()
    shop.await_ready(kinds.SNAPSHOT, "first")
    shop.assert_back()


def test_a_restore_that_fails_is_rolled_back_from_a_snapshot_that_no_verdict_names(shop: World) -> None:
    """The mover refuses to delete by such a snapshot unless the plan vouches for it."""
    shop.policy()
    shop.snapshot()
    shop.await_ready(kinds.SNAPSHOT, "first")
    full = failure("restore", "StorageFull", "No space is left on the volume.")
    shop.movers.script = lambda words, before: full if words[0] == "restore" and before == 0 else None
    shop.restore("back", source={"snapshotName": "first"}, volumes=[{"claim": "db-data"}], overwrite="Mirror")
    ready = shop.await_end(kinds.RESTORE, "back")
    assert (ready["status"], ready["reason"]) == ("False", "StorageFull")
    shop.assert_back()
    (volume,) = shop.status(kinds.RESTORE, "back")["volumes"]
    tried, rolled_back = [words for words in shop.movers.commands if words[0] == "restore"]
    assert "--allow-partial" not in tried
    assert rolled_back[1] == f"{volume['safetySnapshotId']}:/volumes/db-data"
    assert {"--delete", "--allow-partial"} <= set(rolled_back)


def test_a_quota_that_refuses_movers_is_said_tried_again_slowly_and_stops_nothing(shop: World) -> None:
    quota = {"metadata": {"name": "none", "namespace": shop.namespace}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    shop.api.create(QUOTA, quota)
    wait_for(
        "the quota counts",
        lambda: ((shop.api.get(QUOTA, shop.namespace, "none") or {}).get("status") or {}).get("used"),
        within=PATIENCE,
    )
    before = shop.pods()
    shop.policy()
    shop.snapshot()

    def refusal() -> str | None:
        ready = shop.condition(kinds.SNAPSHOT, "first")
        return str(ready["message"]) if ready.get("reason") == "Forbidden" else None

    assert "exceeded quota" in wait_for("it is said", refusal, within=PATIENCE, seen=shop.operator.tail)
    shop.api.delete(QUOTA, shop.namespace, "none")
    shop.await_ready(kinds.SNAPSHOT, "first")
    refused = shop.operator.text().count("exceeded quota")
    assert refused <= 8, f"{refused} attempts in a few seconds: what the attempts write must not wake the next one"
    assert before.isdisjoint(shop.pods()), "the run itself stopped the workloads, once"


QUOTA = Kind("", "v1", "resourcequotas", "ResourceQuota")
