"""The operator's process ends at each write of a run, before it is done or right after: the next one goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import Conflict, Forbidden, NotServed, Unreachable
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.cluster.memory import Call
from lowtide_operator.planning.naming import HELD_LABEL
from lowtide_operator.reconcile.driver import Driver
from lowtide_operator.reconcile.gather import Gatherer
from lowtide_operator.reconcile.keys import Key, Subject
from lowtide_operator.reconcile.queue import WorkQueue
from lowtide_operator.reconcile.resync import Resync
from tests.unit.reconcile.memory_world import CLAIMS, SHOP, WORKLOADS, Died, Shop


async def drive_through(shop: Shop, key: Key) -> int:
    """Drive to the end; whenever the process dies, a new one goes on. Answers how often it died."""
    deaths = 0
    while True:
        try:
            await shop.drive(key)
        except Died:
            deaths += 1
            shop.driver = shop.new_driver()
            shop.step()
        else:
            return deaths


def at(number: int, error: BaseException) -> tuple[list[int], object]:
    """A fault for the `number`-th write, once."""
    seen = [0]

    def fault(call: Call) -> BaseException | None:
        if not call.mutates or call.kind == kinds.EVENT:
            return None
        seen[0] += 1
        return error if seen[0] == number else None

    return seen, fault


async def look_until(shop: Shop, key: Key, reached: Callable[[], bool], *, looks: int = 60) -> None:
    """Let operator and world take turns until `reached()`."""
    for _ in range(looks):
        if reached():
            return
        await shop.driver.reconcile(key)
        shop.step()
        shop.cluster.advance(2)
    raise AssertionError(f"not reached in {looks} looks: {shop.status(key)}")


async def writes_of_a_run(**spec: str) -> int:
    shop = Shop()
    await shop.drive(shop.snapshot(**spec))
    return len([call for call in shop.mutations() if call.kind != kinds.EVENT])


async def test_a_run_ends_well_when_nothing_happens() -> None:
    shop = Shop()
    key = shop.snapshot()
    await shop.drive(key)
    assert shop.ready(key) == ("True", "Complete")
    shop.assert_back()
    assert sorted(words[0] for words in shop.commands) == ["backup", "backup", "preflight", "verdict"]
    assert shop.cluster.all(kinds.JOB) == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_process_that_dies_at_any_write_leaves_nothing_down(when: str) -> None:
    writes = await writes_of_a_run()
    assert writes > 20, "the run has become so short that this test means nothing"
    for number in range(1, writes + 1):
        shop = Shop()
        key = shop.snapshot()
        _, fault = at(number, Died(f"at write {number}"))
        setattr(shop.cluster, "fault" if when == "before" else "fault_after", fault)
        assert await drive_through(shop, key) == 1, f"write {number} was never reached"
        assert shop.ready(key) == ("True", "Complete"), f"{when} write {number}"
        shop.assert_back()
        commands = sorted(words[0] for words in shop.commands)
        assert commands == ["backup", "backup", "preflight", "verdict"], f"{when} write {number}"


async def test_a_process_that_dies_at_every_write_gets_there_in_the_end() -> None:
    shop = Shop()
    key = shop.snapshot()
    shop.cluster.fault_after = lambda call: Died(str(call)) if call.mutates else None
    deaths = await drive_through(shop, key)
    assert deaths > 20
    assert shop.ready(key) == ("True", "Complete")
    shop.assert_back()


@pytest.mark.parametrize(
    "error", [Unreachable("no answer"), Conflict("changed meanwhile")], ids=lambda error: type(error).__name__
)
async def test_a_write_that_fails_at_any_place_is_made_again(error: Exception) -> None:
    for number in range(1, await writes_of_a_run() + 1):
        shop = Shop()
        key = shop.snapshot()
        shop.cluster.fault = at(number, error)[1]  # type: ignore[assignment]
        await shop.drive(key)
        assert shop.ready(key) == ("True", "Complete"), f"write {number}"
        shop.assert_back()


async def test_a_write_whose_answer_is_lost_is_not_made_twice_to_harm() -> None:
    for number in range(1, await writes_of_a_run() + 1):
        shop = Shop()
        key = shop.snapshot()
        shop.cluster.fault_after = at(number, Unreachable("the answer was lost"))[1]  # type: ignore[assignment]
        await shop.drive(key)
        assert shop.ready(key) == ("True", "Complete"), f"write {number}"
        shop.assert_back()
        assert sum(words[0] == "backup" for words in shop.commands) == 2, f"write {number}"


async def test_workloads_come_back_when_the_snapshot_vanishes_at_any_moment() -> None:
    """Someone removes the finalizer and deletes the object by force: the hold on the workloads is all that is left."""
    for number in range(1, await writes_of_a_run() + 1):
        shop = Shop()
        key = shop.snapshot()
        shop.cluster.fault_after = at(number, Died())[1]  # type: ignore[assignment]
        with pytest.raises(Died):
            await shop.drive(key)
        shop.cluster.remove(kinds.SNAPSHOT, SHOP, key.name)
        shop.driver = shop.new_driver()
        await shop.drive(Key(Subject.ORPHANS, SHOP))
        shop.assert_back()


async def backed_up() -> Shop:
    """A shop with a good Snapshot called `first`."""
    shop = Shop()
    await shop.drive(shop.snapshot())
    return shop


def restoring(before: Shop, *, fault: object = None, attribute: str = "fault_after") -> tuple[Shop, Key]:
    """A copy of that shop, with a Restore in place of both volumes, and a fault from there on."""
    shop = before.copy()
    volumes = [{"claim": name} for name in CLAIMS]
    key = shop.restore("back", source={"snapshotName": "first"}, volumes=volumes, overwrite="Mirror")
    if fault is not None:
        setattr(shop.cluster, attribute, fault)
    return shop, key


async def test_a_restore_ends_well_when_nothing_happens() -> None:
    shop, key = restoring(await backed_up())
    await shop.drive(key)
    assert shop.ready(key)[0] == "True", shop.ready(key)
    shop.assert_back()
    words = sorted(words[0] for words in shop.commands)
    assert words == ["backup", "backup", "preflight", "restore", "restore"]


@pytest.mark.parametrize("attribute", ["fault", "fault_after"])
async def test_a_restore_whose_process_dies_at_any_write_writes_each_volume_once(attribute: str) -> None:
    before = await backed_up()
    rehearsal, key = restoring(before)
    await rehearsal.drive(key)
    writes = len([call for call in rehearsal.mutations() if call.kind != kinds.EVENT])
    assert writes > 25
    for number in range(1, writes + 1):
        shop, key = restoring(before, fault=at(number, Died())[1], attribute=attribute)
        assert await drive_through(shop, key) == 1, f"write {number} was never reached"
        assert shop.ready(key)[0] == "True", f"write {number}: {shop.ready(key)}"
        shop.assert_back()
        assert sum(words[0] == "restore" for words in shop.commands) == 2, f"write {number}"


async def test_a_snapshot_that_is_deleted_at_any_moment_lets_go_only_when_workloads_are_back() -> None:
    for number in range(1, await writes_of_a_run(deletionPolicy="Delete") + 1):
        shop = Shop()
        key = shop.snapshot(deletionPolicy="Delete")
        shop.cluster.fault_after = at(number, Died())[1]  # type: ignore[assignment]
        with pytest.raises(Died):
            await shop.drive(key)
        await shop.cluster.delete(kinds.SNAPSHOT, SHOP, key.name)
        shop.driver = shop.new_driver()
        await shop.drive(key)
        assert shop.cluster.peek(kinds.SNAPSHOT, SHOP, key.name) is None, f"write {number}"
        shop.assert_back()
        assert shop.cluster.all(kinds.JOB) == [], f"write {number}"


async def test_a_stale_answer_about_the_run_changes_nothing() -> None:
    """A read that is older than our own last write (a cache, a lagging API server) must not lead to an effect."""
    shop = Shop()
    key = shop.snapshot()
    of_run = (kinds.SNAPSHOT, SHOP, key.name)
    shop.cluster.stale[of_run] = shop.cluster.peek(*of_run)
    for _ in range(6):
        await shop.driver.reconcile(key)
        shop.step()
    assert shop.counts() == {name: count for _, name, count in WORKLOADS}
    assert shop.commands == []
    del shop.cluster.stale[of_run]
    await shop.drive(key)
    assert shop.ready(key) == ("True", "Complete")


@pytest.mark.parametrize("seed", range(8))
async def test_two_processes_that_both_believe_they_are_the_operator_do_everything_once(seed: int) -> None:
    """A node that was cut off still runs the former pod: each call of the one may fall between any two of the other."""
    shop = Shop()
    key = shop.snapshot()
    drivers = [shop.new_driver(), shop.new_driver()]
    chance = random.Random(seed)

    async def one(driver: Driver) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        await driver.reconcile(key)

    for _ in range(120):
        await asyncio.gather(*(one(driver) for driver in drivers))
        shop.step()
        shop.cluster.advance(1)
        if shop.status(key).get("endTime"):
            break
    shop.driver = shop.new_driver()
    await shop.drive(key)
    assert shop.ready(key) == ("True", "Complete")
    shop.assert_back()
    assert sorted(words[0] for words in shop.commands) == ["backup", "backup", "preflight", "verdict"]


@pytest.mark.parametrize("method", ["Snapshot", "GroupSnapshot", "Clone"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_process_that_dies_at_any_write_of_a_run_by_copies_leaves_nothing_down_and_no_copy(
    when: str, method: str
) -> None:
    quiet = Shop()
    quiet.policy(capture={"method": method})
    await quiet.drive(quiet.snapshot())
    writes = len([call for call in quiet.mutations() if call.kind != kinds.EVENT])
    assert writes > 30, "the run has become so short that this test means nothing"
    for number in range(1, writes + 1):
        shop = Shop()
        shop.policy(capture={"method": method})
        key = shop.snapshot()
        _, fault = at(number, Died(f"at write {number}"))
        setattr(shop.cluster, "fault" if when == "before" else "fault_after", fault)
        assert await drive_through(shop, key) == 1, f"write {number} was never reached"
        assert shop.ready(key) == ("True", "Complete"), f"{when} write {number}"
        shop.assert_back()
        assert shop.copies() == shop.marked() == [], f"{when} write {number}"
        commands = sorted(words[0] for words in shop.commands)
        assert commands == ["backup", "backup", "preflight", "verdict"], f"{when} write {number}"


@pytest.mark.parametrize("method", ["Snapshot", "Clone"])
async def test_a_quota_ends_a_run_by_copies_at_once_with_its_words_and_the_workloads_come_back(method: str) -> None:
    shop = Shop()
    shop.policy(capture={"method": method})
    copied = kinds.VOLUME_SNAPSHOT if method == "Snapshot" else kinds.CLAIM

    def fault(call: Call) -> BaseException | None:
        refused = Forbidden(f"creating {call.kind} shop/{call.name}: exceeded quota: objects")
        return refused if call.verb == "create" and call.kind == copied else None

    shop.cluster.fault = fault
    key = shop.snapshot()
    await shop.drive(key)
    assert shop.ready(key) == ("False", "CopyRefused")
    (failure,) = (entry["message"] for entry in shop.status(key)["conditions"] if entry["type"] == "Ready")
    assert "exceeded quota: objects" in failure
    shop.assert_back()
    assert "backup" not in {words[0] for words in shop.commands}


@pytest.mark.parametrize("method", ["Snapshot", "GroupSnapshot", "Clone"])
async def test_a_policy_that_refuses_the_deletion_of_copies_keeps_nothing_down(method: str) -> None:
    shop = Shop()
    shop.policy(capture={"method": method})
    key = shop.snapshot()
    await look_until(shop, key, lambda: bool(shop.copies()))

    def fault(call: Call) -> BaseException | None:
        deletes = call.verb == "delete" and call.kind not in (kinds.JOB, kinds.POD)
        return Forbidden(f"deleting {call.kind} {call.name}: refused by a policy") if deletes else None

    shop.cluster.fault = fault
    body = shop.cluster.peek(kinds.DEPLOYMENT, SHOP, "web")
    assert body is not None
    del body["metadata"]["labels"][HELD_LABEL]
    shop.cluster.put(kinds.DEPLOYMENT, body)
    assert shop.held() == ["db"]
    await look_until(shop, key, lambda: not shop.held(), looks=5)
    assert shop.counts()["db"] == 1
    await look_until(shop, key, lambda: bool(shop.status(key).get("endTime")), looks=200)
    assert shop.ready(key)[0] == "False"


async def test_a_group_is_declared_complete_although_its_copies_may_not_be_deleted() -> None:
    shop = Shop()
    shop.policy(capture={"method": "Snapshot"})
    key = shop.snapshot()
    refused = Forbidden("refused by a policy")
    shop.cluster.fault = lambda c: refused if c.verb == "delete" and c.kind == kinds.CLAIM else None
    await look_until(shop, key, lambda: "verdict" in {words[0] for words in shop.commands})
    shop.assert_back()


@pytest.mark.parametrize(("refused", "other"), [(kinds.DEPLOYMENT, "db"), (kinds.STATEFUL_SET, "web")])
async def test_a_workload_that_can_not_be_put_back_keeps_no_other_down(refused: Kind, other: str) -> None:
    shop = Shop()
    key = shop.snapshot()
    await look_until(shop, key, lambda: len([words for words in shop.commands if words[0] == "backup"]) == 2)
    shop.cluster.fault = lambda c: Forbidden("refused by a policy") if c.verb == "patch" and c.kind == refused else None
    await look_until(shop, key, lambda: other not in shop.held())
    assert shop.ready(key) == ("Unknown", "Forbidden")
    shop.cluster.fault = lambda call: None
    await shop.drive(key)
    assert shop.ready(key) == ("True", "Complete")
    shop.assert_back()


OF_GROUPS = (kinds.GROUP_SNAPSHOT, kinds.GROUP_SNAPSHOT_CLASS)


@pytest.mark.parametrize(
    ("absent", "outcomes"),
    [
        pytest.param(
            (kinds.VOLUME_SNAPSHOT, kinds.VOLUME_SNAPSHOT_CLASS, *OF_GROUPS),
            {
                "Direct": ("True", "Complete"),
                "Clone": ("True", "Complete"),
                "Snapshot": ("False", "SnapshotsNotServed"),
                "GroupSnapshot": ("False", "GroupSnapshotsNotServed"),
            },
            id="no kind of snapshot",
        ),
        pytest.param(
            OF_GROUPS,
            {"Snapshot": ("True", "Complete"), "GroupSnapshot": ("False", "GroupSnapshotsNotServed")},
            id="no groups of them",
        ),
    ],
)
async def test_without_a_kind_everything_but_the_methods_that_need_it_works(
    absent: tuple[Kind, ...], outcomes: dict[str, tuple[str, str]]
) -> None:
    shop = Shop()
    shop.cluster.fault = lambda call: NotServed("HTTP 404") if call.kind in absent else None
    for method, expected in outcomes.items():
        shop.policy(capture={"method": method})
        key = shop.snapshot(method.lower())
        await shop.drive(key)
        assert shop.ready(key) == expected
        shop.assert_back()
    assert await shop.driver.reconcile(Key(Subject.ORPHANS, SHOP)) is None


async def test_what_a_run_left_of_a_group_is_found_although_nothing_of_ours_is_in_the_namespace() -> None:
    """Its Snapshot and its policy are gone: only the labels tell."""
    shop = Shop()
    shop.policy(capture={"method": "GroupSnapshot"})
    key = shop.snapshot()
    while not shop.cluster.all(kinds.GROUP_SNAPSHOT):
        await shop.driver.reconcile(key)
        if not shop.cluster.all(kinds.GROUP_SNAPSHOT):
            shop.step()
        shop.cluster.advance(1)
    assert shop.marked() == sorted(CLAIMS)
    (group,) = shop.cluster.all(kinds.GROUP_SNAPSHOT)
    group["metadata"].pop("ownerReferences")
    shop.cluster.put(kinds.GROUP_SNAPSHOT, group)
    shop.cluster.remove(kinds.SNAPSHOT, SHOP, "first")
    shop.cluster.remove(kinds.BACKUP_POLICY, SHOP, "nightly")
    shop.cluster.advance(120)
    gatherer = Gatherer(shop.cluster, "cluster", "lowtide")
    queue: WorkQueue[Key] = WorkQueue()
    assert await Resync(shop.cluster, (), queue, shop.driver, gatherer).once() == {SHOP}
    await shop.drive(Key(Subject.ORPHANS, SHOP))
    assert shop.copies() == shop.marked() == []
    shop.assert_back()
