"""The release pod's program: it brings the workloads back where the operator is dead, late, or there as well."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.planning.naming import RELEASE_OF_LABEL
from tests.cluster.controlplane import ControlPlane
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.movers import Play
from tests.integration.operator_world.process import ReleasePod
from tests.integration.operator_world.world import PATIENCE, World, world

pytestmark = pytest.mark.apiserver

SHORT = {"timeout": "30s", "maxDowntime": "30s"}
LATE = 30 + 10 + PATIENCE


@pytest.fixture
def shop(control_plane: ControlPlane, tmp_path: Path) -> Iterator[World]:
    with world(control_plane, tmp_path) as made:
        made.movers.script = lambda words, before: Play(hang=True) if words[0] == "backup" else None
        made.operator.start()
        yield made


@pytest.fixture
def pod(shop: World) -> Iterator[ReleasePod]:
    """The release pod of a Snapshot that has stopped its workloads and reads, not started yet. Flux has web."""
    labels = {f"kustomize.toolkit.fluxcd.io/{key}": key for key in ("name", "namespace")}
    shop.api.patch(kinds.DEPLOYMENT, shop.namespace, "web", {"metadata": {"labels": labels}})
    shop.policy(quiesce=SHORT)
    shop.snapshot()
    wait_for("movers run", lambda: shop.movers.count("backup") == 2, within=PATIENCE, seen=shop.operator.tail)
    assert shop.counts() == {"web": 0, "db": 0}
    assert paused(shop) == "disabled"
    made = shop.release_pod(kinds.SNAPSHOT, "first")
    try:
        yield made
    finally:
        made.kill()


def await_back(shop: World, pod: ReleasePod) -> None:
    wait_for(
        "the counts are back", lambda: shop.counts() == shop.wanted_counts(), within=LATE, every=0.2, seen=pod.text
    )
    wait_for("nothing is held", lambda: shop.held() == [], within=PATIENCE, seen=pod.text)
    assert paused(shop) is None


def paused(shop: World) -> str | None:
    """What Flux is told at web."""
    body = shop.api.get(kinds.DEPLOYMENT, shop.namespace, "web") or {}
    told: str | None = (body["metadata"].get("annotations") or {}).get("kustomize.toolkit.fluxcd.io/reconcile")
    return told


def test_an_operator_that_is_dead_for_good_leaves_nothing_down_although_its_release_pod_dies_at_every_step(
    shop: World, pod: ReleasePod
) -> None:
    shop.operator.kill()
    pod.start()
    wait_for("it watches", lambda: "watching Snapshot" in pod.text(), within=PATIENCE, seen=pod.text)
    assert pod.stop() != 0, "a pod that is evicted has not done its work, so its Job must make another one"
    pod.start()
    for step in ("taken over", "a Job deleted", "one back", "all back"):
        wait_for(
            step,
            lambda step=step: reached(shop, step),  # type: ignore[misc]
            within=LATE,
            every=0.01,
            seen=pod.text,
        )
        pod.kill()
        pod.start()
    await_back(shop, pod)
    shop.assert_back()
    assert shop.api.list(kinds.JOB, shop.namespace, "lowtide.dev/purpose=backup") == []
    # The operator comes back after all: it sees what was done, and says that the run failed.
    shop.operator.start()
    assert shop.await_end(kinds.SNAPSHOT, "first")["reason"] == "MaxDowntimeExceeded"
    states = [entry["state"] for entry in shop.status(kinds.SNAPSHOT, "first")["quiesce"]["workloads"]]
    assert states == ["Released", "Released"]
    wait_for("its Job is dismissed", lambda: not shop.release_jobs(), within=PATIENCE)
    shop.assert_back()


def reached(shop: World, step: str) -> bool:
    """How far a release is, for all to see."""
    body = shop.api.get(kinds.SNAPSHOT, shop.namespace, "first") or {}
    movers = shop.api.list(kinds.JOB, shop.namespace, "lowtide.dev/purpose=backup")
    return {
        "taken over": "lowtide.dev/release" in (body["metadata"].get("annotations") or {}),
        "a Job deleted": len(movers) < 2,
        "one back": any(shop.counts().values()),
        "all back": all(shop.counts().values()),
    }[step]


def test_operator_and_release_pod_at_once_do_no_harm(shop: World, pod: ReleasePod) -> None:
    pod.start()
    assert shop.await_end(kinds.SNAPSHOT, "first", within=LATE)["reason"] == "MaxDowntimeExceeded"
    shop.assert_back()
    assert pod.wait(60) == 0, "it sees that nothing is left to do"
    assert "Traceback" not in pod.text()


def test_the_snapshot_is_gone_and_so_is_the_operator(shop: World, pod: ReleasePod) -> None:
    shop.operator.kill()
    shop.api.patch(kinds.SNAPSHOT, shop.namespace, "first", {"metadata": {"finalizers": None}})
    shop.api.delete(kinds.SNAPSHOT, shop.namespace, "first")
    pod.start()
    await_back(shop, pod)
    shop.assert_back()


def test_a_restore_that_has_begun_to_write_is_never_touched(shop: World) -> None:
    shop.movers.script = lambda words, before: Play(hang=True) if words[0] == "restore" else None
    shop.restore_until_it_writes(quiesce=SHORT)
    shop.operator.kill()
    pod = shop.release_pod(kinds.RESTORE, "back")
    pod.start()
    assert pod.wait(60) == 0
    assert shop.counts() == {"web": 2, "db": 0}
    assert shop.held() == ["db"]
    assert "lowtide.dev/release" not in str((shop.api.get(kinds.RESTORE, shop.namespace, "back") or {})["metadata"])


def test_nothing_is_stopped_before_the_release_pod_is_ready(shop: World) -> None:
    shop.kubelet.held_back = lambda pod: RELEASE_OF_LABEL in pod["metadata"]["labels"]
    shop.movers.script = lambda words, before: None
    shop.policy()
    shop.snapshot()
    wait_for(
        "it waits for the release pod",
        lambda: shop.condition(kinds.SNAPSHOT, "first", "Quiesced").get("reason") == "Arming",
        within=PATIENCE,
        seen=lambda: shop.seen(kinds.SNAPSHOT, "first"),
    )
    assert shop.counts() == shop.wanted_counts()
    shop.kubelet.held_back = lambda pod: False
    shop.await_ready(kinds.SNAPSHOT, "first")
    wait_for("the release pod is dismissed", lambda: not shop.release_jobs(), within=PATIENCE)


def test_a_release_pod_that_is_lost_is_replaced(shop: World) -> None:
    shop.policy()
    shop.snapshot()
    wait_for("movers run", lambda: shop.movers.count("backup") == 2, within=PATIENCE, seen=shop.operator.tail)
    (job,) = shop.release_jobs()
    shop.api.delete(kinds.JOB, shop.namespace, job["metadata"]["name"])
    again = wait_for(
        "another release pod is there",
        lambda: [other for other in shop.release_jobs() if other["metadata"]["uid"] != job["metadata"]["uid"]],
        within=PATIENCE,
        seen=shop.operator.tail,
    )
    assert re.match(r"lowtide-release-[0-9a-f]{10}-\d+$", again[0]["metadata"]["name"])
    assert shop.counts() == {"web": 0, "db": 0}, "the run goes on"
