"""What is registered with kopf, and how kopf is set up: what would write, block or die is not there."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Sized

import kopf
import pytest

from lowtide_operator.cluster.memory import MemoryCluster
from lowtide_operator.handlers.reports import SELECTORS, build_registry
from lowtide_operator.handlers.watch import FINALIZER, Watch, kopf_settings
from lowtide_operator.planning.naming import RUN_LABEL
from lowtide_operator.reconcile.heartbeat import BEAT_ANNOTATION, Heartbeat
from lowtide_operator.reconcile.inbox import Inbox, Seen
from lowtide_operator.reconcile.keys import Key, Subject
from lowtide_operator.reconcile.queue import WorkQueue
from lowtide_operator.settings import Settings

SETTINGS = Settings(namespace="lowtide", mover_image="lowtide:1", installation="lowtide/lowtide")


class Settled:
    """In the place of a driver: what it calls settled."""

    def __init__(self) -> None:
        self.versions: dict[Key, str] = {}
        self.failed: dict[Key, int] = {}

    def held_off(self, key: Key, generation: int) -> bool:
        return self.failed.get(key) == generation

    def settled(self, key: Key, resource_version: str) -> bool:
        return self.versions.get(key) == resource_version


@pytest.fixture
async def queue() -> WorkQueue[Key]:
    return WorkQueue()


@pytest.fixture
def driver() -> Settled:
    return Settled()


@pytest.fixture
def inbox(queue: WorkQueue[Key], driver: Settled) -> Inbox:
    heartbeat = Heartbeat(MemoryCluster(), ("lowtide",), "lowtide/lowtide", 150)
    return Inbox(queue, driver, heartbeat)  # type: ignore[arg-type]


async def test_only_event_handlers_and_all_of_them_async(inbox: Inbox) -> None:
    registry = build_registry(inbox, asyncio.get_running_loop())
    watching = list(registry._watching.get_all_handlers())
    assert len(watching) == 6
    assert all(inspect.iscoroutinefunction(handler.fn) for handler in watching)
    for others in (registry._changing, registry._spawning, registry._indexing, registry._webhooks):
        assert list(others.get_all_handlers()) == []


def test_kopf_lives_through_outages_and_writes_nothing() -> None:
    made = kopf_settings(SETTINGS)
    assert made.persistence.finalizer == FINALIZER
    assert made.posting.enabled is False
    assert made.peering.standalone is True
    assert not isinstance(made.networking.error_backoffs, Sized), "with a length kopf gives up after so many attempts"
    assert 30 <= made.watching.inactivity_timeout <= 70
    assert made.scanning.disabled is False
    for kind, selector in SELECTORS.items():
        assert made.watching.label_selectors[kind.group, kind.version, kind.plural] == selector


async def test_a_run_wakes_itself_and_its_policy_and_a_movers_pod_its_run(
    inbox: Inbox, queue: WorkQueue[Key], driver: Settled
) -> None:
    inbox.run(Subject.SNAPSHOT, seen("7", gone=False), "nightly")
    assert drain(queue) == {Key(Subject.SNAPSHOT, "shop", "first"), Key(Subject.POLICY, "shop", "nightly")}
    inbox.child({RUN_LABEL: "uid-1"})
    assert drain(queue) == {Key(Subject.SNAPSHOT, "shop", "first")}
    inbox.child({RUN_LABEL: "of another cluster"})
    assert drain(queue) == set()
    driver.versions[Key(Subject.SNAPSHOT, "shop", "first")] = "8"
    inbox.run(Subject.SNAPSHOT, seen("8", gone=False), "nightly")
    assert drain(queue) == set(), "what is settled in this version is not looked at again"
    inbox.run(Subject.SNAPSHOT, seen("9", gone=True), "nightly")
    assert drain(queue) == {
        Key(Subject.SNAPSHOT, "shop", "first"),
        Key(Subject.POLICY, "shop", "nightly"),
        Key(Subject.ORPHANS, "shop"),
    }
    inbox.child({RUN_LABEL: "uid-1"})
    assert drain(queue) == set()


async def test_a_run_that_fails_is_not_woken_by_what_its_own_attempts_write(
    inbox: Inbox, queue: WorkQueue[Key], driver: Settled
) -> None:
    key = Key(Subject.SNAPSHOT, "shop", "first")
    driver.failed[key] = 1
    inbox.run(Subject.SNAPSHOT, seen("8"), "nightly")
    assert drain(queue) == set()
    inbox.run(Subject.SNAPSHOT, seen("9", generation=2), "nightly")
    assert key in drain(queue), "a change of what is wanted, or a deletion, is looked at at once"
    inbox.run(Subject.SNAPSHOT, seen("10", gone=True), "nightly")
    assert key in drain(queue)


async def test_a_heartbeat_that_is_reported_is_heard(queue: WorkQueue[Key], driver: Settled) -> None:
    cluster = MemoryCluster()
    heartbeat = Heartbeat(cluster, ("lowtide",), "lowtide/lowtide", 150)
    await heartbeat.beat()
    ((_, lease),) = cluster.objects.items()
    inbox = Inbox(queue, driver, heartbeat)  # type: ignore[arg-type]
    inbox.lease(heartbeat.name, {BEAT_ANNOTATION: lease["metadata"]["annotations"][BEAT_ANNOTATION]})
    assert heartbeat.unready() == ""


def test_watching_that_breaks_off_is_started_again_and_ends_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, restarts = [], []

    async def operator(*, stop_flag: asyncio.Event, **_: object) -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise RuntimeError("a watch error other than 410")
        second.set()
        await stop_flag.wait()

    second = threading.Event()
    monkeypatch.setattr(kopf, "operator", operator)
    monkeypatch.setattr("lowtide_operator.handlers.watch.FIRST_RESTART_SECONDS", 0.01)
    watch = Watch(SETTINGS, kopf.OperatorRegistry, lambda: restarts.append(1))
    watch.start()
    assert second.wait(10)
    watch.stop(10)
    assert not watch._thread.is_alive()
    assert runs == [0, 1]
    assert restarts == [1]


def seen(version: str, *, generation: int = 1, gone: bool = False) -> Seen:
    return Seen("shop", "first", "uid-1", version, generation, gone)


def drain(queue: WorkQueue[Key]) -> set[Key]:
    """The keys that wait; none waits afterwards."""
    found = set(queue._waiting)
    queue._waiting.clear()
    while not queue._ready.empty():
        queue._ready.get_nowait()
    return found
