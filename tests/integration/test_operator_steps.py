"""A run that has all there is (a stream, hooks, copies), while the API server is restarted at every third of its steps,
or the node's kubelet stops for a while at each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.planning.naming import COPY_LABEL
from tests.cluster.controlplane import ControlPlane
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.kills import await_change
from tests.integration.operator_world.kubelet import NODE
from tests.integration.operator_world.process import Operator
from tests.integration.operator_world.world import PATIENCE, World, world

pytestmark = pytest.mark.apiserver

DUMP = {"name": "shop.sql", "container": {"image": "played", "command": ["pg_dump"]}}
HOOK = {"podSelector": {"matchLabels": {"app": "db"}}, "command": ["sync"]}
STOPPED_SECONDS = 3.0


@pytest.fixture
def shop(control_plane: ControlPlane, tmp_path: Path) -> Iterator[World]:
    """A run that is about to begin."""
    with world(control_plane, tmp_path) as made:
        made.allow_copies()
        log, own = tmp_path / "operator.log", made.namespace
        settings = {"allow_streams": "true", "exec_namespaces": own, "exec_account": "default"}
        made.operator = Operator(control_plane.kubeconfig, log, own, **settings)
        made.operator.start()
        capture = {"method": "Snapshot", "storageClassName": "played"}
        made.policy(capture=capture, streams=[DUMP], hooks={"before": [HOOK], "after": [HOOK]})
        made.snapshot()
        yield made


def steps(shop: World) -> str:
    """How far the run is, as people see it, and whether there are copies."""
    conditions = shop.status(kinds.SNAPSHOT, "first").get("conditions") or []
    copies = [
        *shop.api.list(kinds.VOLUME_SNAPSHOT, shop.namespace),
        *shop.api.list(kinds.CLAIM, shop.namespace, COPY_LABEL),
    ]
    return f"{[(entry['type'], entry['reason']) for entry in conditions]} {len(copies)}"


def at_steps(shop: World, happens: Callable[[], None], *, every: int = 1) -> int:
    """Have it happen whenever the run has made so many steps, until it has ended; how often that was."""
    count, seen = 0, ""
    while not shop.status(kinds.SNAPSHOT, "first").get("endTime"):
        seen = await_change(shop, steps, seen, within=240)
        count += 1
        if count % every == 0:
            happens()
    return count // every


def assert_ended_well(shop: World) -> None:
    """Each Job was made once, nothing is down, and no copy is left.

    Not each pod: Kubernetes may make two for a Job, as where the API server is killed while it makes one.
    """
    assert shop.condition(kinds.SNAPSHOT, "first")["status"] == "True", shop.seen(kinds.SNAPSHOT, "first")
    shop.assert_back()
    said = {word for words in shop.movers.commands for word in words}
    assert said >= {"--hook=before-1", "--hook=after-1", "--stream", "backup"}
    made = Counter(job["purpose"] for job in shop.status(kinds.SNAPSHOT, "first")["jobs"])
    assert (made["before-hook"], made["after-hook"], made["stream"], made["backup"]) == (1, 1, 1, 2)
    wait_for("no copy is left", lambda: steps(shop).endswith(" 0"), within=PATIENCE, seen=lambda: steps(shop))


def test_an_api_server_that_is_restarted_again_and_again(shop: World, control_plane: ControlPlane) -> None:
    """Controllers come back to it later each time, so not at each step."""

    def happens() -> None:
        control_plane.kill()
        control_plane.restart()

    assert at_steps(shop, happens, every=3) >= 3
    assert_ended_well(shop)


def test_a_kubelet_that_is_stopped_for_a_while_at_each_step(shop: World) -> None:
    unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}

    def happens() -> None:
        shop.kubelet.stopped = True
        shop.api.patch(kinds.NODE, None, NODE, {"status": {"conditions": [unknown]}}, "status")
        time.sleep(STOPPED_SECONDS)
        shop.kubelet.stopped = False

    assert at_steps(shop, happens) >= 8
    assert_ended_well(shop)
