"""Capture by copies against a real API server: the kinds, their quota and their events are real, the driver plays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.manifests.copies import group_snapshot
from lowtide_operator.planning.actions import CreateGroupSnapshot, Ref
from lowtide_operator.planning.naming import COPY_LABEL, GROUP_SNAPSHOT_LABEL, RUN_LABEL
from lowtide_operator.planning.observed import Uid
from tests.cluster.controlplane import ControlPlane
from tests.cluster.storage import define_snapshots, remove_snapshots
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.api import Object
from tests.integration.operator_world.kills import killed_at_every_change
from tests.integration.operator_world.world import PATIENCE, World, claim, world

pytestmark = pytest.mark.apiserver

NOBODY = Ref("v1", "Nobody", "", "", Uid(""))
QUOTA = Kind("", "v1", "resourcequotas", "ResourceQuota")

every_method = pytest.mark.parametrize("method", ["Snapshot", "GroupSnapshot", "Clone"])


@pytest.fixture
def shop(control_plane: ControlPlane, tmp_path: Path) -> Iterator[World]:
    """A shop whose volumes can be copied."""
    with world(control_plane, tmp_path) as made:
        made.allow_copies()
        yield made


def policy(shop: World, method: str, **capture: Any) -> None:
    shop.policy(capture={"method": method, "storageClassName": "played", **capture})


def copies(shop: World) -> list[str]:
    """Every copy that is there, members of groups too."""
    bodies = [
        *shop.api.list(kinds.CLAIM, shop.namespace, COPY_LABEL),
        *shop.api.list(kinds.VOLUME_SNAPSHOT, shop.namespace),
        *shop.api.list(kinds.GROUP_SNAPSHOT, shop.namespace),
    ]
    return [f"{body.get('kind', '')} {body['metadata']['name']}" for body in bodies]


def marked(shop: World) -> list[str]:
    """The claims that are marked for a VolumeGroupSnapshot."""
    return [claim["metadata"]["name"] for claim in shop.api.list(kinds.CLAIM, shop.namespace, GROUP_SNAPSHOT_LABEL)]


def await_no_copies(shop: World, within: float = PATIENCE) -> None:
    wait_for("no copy is left", lambda: copies(shop) == [], within=within, seen=lambda: f"{copies(shop)}")
    assert marked(shop) == []


@every_method
def test_movers_read_copies_while_the_workloads_run_again(shop: World, method: str) -> None:
    counts: list[dict[str, int]] = []
    shop.movers.script = lambda words, before: counts.append(shop.counts()) if words[0] == "backup" else None
    shop.operator.start()
    policy(shop, method)
    shop.snapshot()
    status = shop.await_ready(kinds.SNAPSHOT, "first")
    shop.assert_back()
    assert counts == [shop.wanted_counts()] * 2
    ledger, backups = status["quiesce"], [job for job in status["jobs"] if job["purpose"] == "backup"]
    assert all(ledger["readyTime"] <= job["createdAt"] for job in backups)
    assert all(ledger["goneTime"] <= copy["askedAt"] <= copy["readyAt"] for copy in status["copies"])
    assert all(copy["readyAt"] <= ledger["releasedTime"] for copy in status["copies"])
    assert status["capturedTime"] == ledger["goneTime"]
    assert status["downtime"]
    assert status["upload"]
    await_no_copies(shop)


@pytest.mark.parametrize("method", ["Snapshot", "GroupSnapshot"])
def test_an_operator_killed_at_every_step_leaves_nothing_down_and_no_copy(shop: World, method: str) -> None:
    """SIGKILL whenever the world changed: each new status, hold, mark, copy or Job ends the process that made it."""
    policy(shop, method)
    shop.snapshot()
    kills = killed_at_every_change(
        shop,
        fingerprint,
        over=lambda: shop.status(kinds.SNAPSHOT, "first").get("endTime"),
        within=400,
    )
    assert kills >= 10
    assert shop.condition(kinds.SNAPSHOT, "first")["status"] == "True"
    shop.operator.start()
    shop.assert_back()
    await_no_copies(shop)
    assert shop.movers.count("backup") == 2


def test_a_group_snapshot_takes_the_claims_of_the_group_alone_and_leaves_no_label(shop: World) -> None:
    """A third claim is in the namespace. The copies stay until they have been looked at: their movers are held back."""
    shop.hold_movers("backup")
    shop.api.create(kinds.CLAIM, claim(shop.namespace, "not-in-the-group"))
    shop.operator.start()
    policy(shop, "GroupSnapshot")
    shop.snapshot()

    def members() -> list[Object] | None:
        found = shop.api.list(kinds.VOLUME_SNAPSHOT, shop.namespace)
        return found if len(found) == 2 else None

    taken = wait_for("the members are made", members, within=PATIENCE, seen=shop.operator.tail)
    assert sorted(body["spec"]["source"]["persistentVolumeClaimName"] for body in taken) == ["db-data", "web-data"]
    shop.let_movers_start()
    status = shop.await_ready(kinds.SNAPSHOT, "first")
    assert {copy["snapshotName"] for copy in status["copies"]} == {body["metadata"]["name"] for body in taken}
    await_no_copies(shop)


def test_copies_are_found_by_their_label_although_their_snapshot_is_gone(shop: World) -> None:
    """VolumeSnapshots as a run left them; and a VolumeGroupSnapshot and a mark as another would have."""
    shop.kubelet.trouble = "no space left in the pool"
    policy(shop, "Snapshot")
    shop.operator.start()
    shop.snapshot()
    wait_for("copies are asked for", lambda: len(copies(shop)) == 2, within=PATIENCE, seen=shop.operator.tail)
    shop.operator.kill()
    for body in shop.api.list(kinds.VOLUME_SNAPSHOT, shop.namespace):
        name, labels = body["metadata"]["name"], body["metadata"]["labels"]
        shop.api.patch(kinds.VOLUME_SNAPSHOT, shop.namespace, name, {"metadata": {"ownerReferences": None}})
    mark = {GROUP_SNAPSHOT_LABEL: labels[RUN_LABEL]}
    group = group_snapshot(CreateGroupSnapshot(shop.namespace, "left", labels, NOBODY, mark, "played"))
    del group["metadata"]["ownerReferences"]
    shop.api.create(kinds.GROUP_SNAPSHOT, group)
    shop.api.patch(kinds.CLAIM, shop.namespace, "db-data", {"metadata": {"labels": mark}})
    shop.api.patch(kinds.SNAPSHOT, shop.namespace, "first", {"metadata": {"finalizers": None}})
    shop.api.delete(kinds.SNAPSHOT, shop.namespace, "first")
    shop.operator.start()
    # What is younger than a minute is left alone.
    await_no_copies(shop, within=150)
    wait_for("the counts are back", lambda: shop.counts() == shop.wanted_counts(), within=PATIENCE)
    shop.assert_back()


@every_method
def test_a_driver_that_fails_is_quoted_and_the_workloads_come_back(shop: World, method: str) -> None:
    shop.kubelet.trouble = "rpc error: this driver can't do that"
    shop.operator.start()
    policy(shop, method, timeout="10s")
    shop.snapshot()
    ready = shop.await_end(kinds.SNAPSHOT, "first")
    assert ready["reason"] == "CopyNotReady"
    assert "this driver can't do that" in ready["message"]
    shop.assert_back()
    assert shop.movers.count("backup") == 0
    await_no_copies(shop)


def test_a_claim_of_a_snapshot_that_does_not_bind_fails_the_run_while_the_workloads_run(shop: World) -> None:
    """The volume of the first snapshot can't be made: its reason is in the events of the claim. That claim is made once
    the workloads run again, which they do not before the trouble is there."""
    shop.kubelet.held_back = lambda pod: "app" in pod["metadata"]["labels"]
    shop.operator.start()
    policy(shop, "Snapshot", timeout="10s")
    shop.snapshot()
    wait_for(
        "the state is captured",
        lambda: shop.condition(kinds.SNAPSHOT, "first", "Captured").get("status") == "True",
        within=PATIENCE,
        every=0.01,
        seen=lambda: shop.seen(kinds.SNAPSHOT, "first"),
    )
    shop.kubelet.trouble = "no space for another volume"
    shop.let_movers_start()
    ready = shop.await_end(kinds.SNAPSHOT, "first")
    assert ready["reason"] == "CopyPending"
    assert "no space for another volume" in ready["message"]
    shop.assert_back()
    await_no_copies(shop)


def test_a_quota_that_leaves_no_room_for_a_copy_ends_the_downtime_at_once(shop: World) -> None:
    quota: Object = {
        "metadata": {"name": "full", "namespace": shop.namespace},
        "spec": {"hard": {"persistentvolumeclaims": "2"}},
    }
    shop.api.create(QUOTA, quota)
    wait_for(
        "the quota counts",
        lambda: ((shop.api.get(QUOTA, shop.namespace, "full") or {}).get("status") or {}).get("used"),
        within=PATIENCE,
    )
    shop.operator.start()
    policy(shop, "Clone")
    shop.snapshot()
    ready = shop.await_end(kinds.SNAPSHOT, "first")
    assert ready["reason"] == "CopyRefused"
    assert "exceeded quota: full" in ready["message"]
    shop.assert_back()
    assert copies(shop) == []


def test_without_the_definitions_method_snapshot_is_refused_and_all_else_works(
    shop: World, control_plane: ControlPlane
) -> None:
    shop.kubelet.takes_snapshots = False
    remove_snapshots(control_plane.kubectl)
    try:
        shop.operator.start()
        policy(shop, "Snapshot")
        before = shop.pods()
        shop.snapshot()
        ready = shop.await_end(kinds.SNAPSHOT, "first")
        assert ready["reason"] == "SnapshotsNotServed"
        assert "snapshot.storage.k8s.io" in ready["message"]
        assert shop.pods() == before
        shop.api.patch(
            kinds.BACKUP_POLICY,
            shop.namespace,
            "nightly",
            {"spec": {"capture": {"method": "Direct", "storageClassName": None}}},
        )
        shop.snapshot("second")
        shop.await_ready(kinds.SNAPSHOT, "second")
        shop.assert_back()
        shop.policy("together", capture={"method": "GroupSnapshot", "storageClassName": "played"})
        shop.snapshot("third", "together")
        ready = shop.await_end(kinds.SNAPSHOT, "third")
        assert ready["reason"] == "GroupSnapshotsNotServed"
        assert "groupsnapshot.storage.k8s.io/v1" in ready["message"]
    finally:
        define_snapshots(control_plane.kubectl)


def fingerprint(shop: World) -> str:
    """Everything that the operator may change, as it is now."""
    status = dict(shop.status(kinds.SNAPSHOT, "first"))
    jobs = [job["metadata"]["name"] for job in shop.api.list(kinds.JOB, shop.namespace)]
    seen = [status, shop.counts(), shop.held(), sorted(jobs), sorted(copies(shop)), sorted(marked(shop))]
    return json.dumps(seen, sort_keys=True)
