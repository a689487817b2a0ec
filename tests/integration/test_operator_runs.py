"""The operator against a real API server: backups and restores from the first patch to the last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lowtide_operator.cluster import kinds
from tests.cluster.controlplane import ControlPlane
from tests.integration.operator_world.world import World, world

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
