"""Rules applied to a repository's snapshots: groups, filters, whole runs, and what is flawed."""

from __future__ import annotations

import pytest

from lowtide_engine.expiry import Expiry, plan_expiry, units
from lowtide_engine.repository import Instant, Snapshot, SnapshotFilter
from lowtide_engine.retention import KeepsNothing, Rules, Span

NOW = Instant.parse("2025-06-30T12:00:00Z")
LAST = Rules(last=1)


def snapshot(
    name: str, time: str, *tags: str, paths: tuple[str, ...] = ("/data",), host: str = "shop", original: str = ""
) -> Snapshot:
    return Snapshot(
        Instant.parse(time), "0" * 64, paths, hostname=host, tags=tags, original=original and original.ljust(64, "0"),
        id=name.ljust(64, "0"),
    )  # fmt: skip


def member(run: str, claim: str, time: str, *tags: str) -> Snapshot:
    name = f"{run}-{claim}"
    return snapshot(name, time, f"lowtide:run={run}", f"lowtide:claim={claim}", *tags, paths=(f"/volumes/{claim}",))


def verdict(run: str, time: str, *claims: str) -> Snapshot:
    named = [f"lowtide:member={f'{run}-{claim}'.ljust(64, '0')}" for claim in claims]
    return snapshot(
        f"{run}-verdict", time, f"lowtide:run={run}", "lowtide:verdict", *named, paths=("/verdict.json",), host="other"
    )


def whole_run(run: str, day: int) -> list[Snapshot]:
    time = f"2025-06-{day:02}T02:00:0"
    claims = ("data", "media")
    return [*(member(run, claim, f"{time}{n}Z") for n, claim in enumerate(claims)), verdict(run, f"{time}5Z", *claims)]


def removed(expiry: Expiry) -> set[str]:
    return {gone.id.rstrip("0") for gone in expiry.removed}


def reasons(expiry: Expiry) -> dict[str, list[str]]:
    return {
        one.id.rstrip("0"): decision.reasons
        for group in expiry.groups
        for decision in group.decisions
        for one in decision.item.snapshots
    }


def test_a_run_counts_once_and_stays_or_goes_as_a_whole() -> None:
    runs = [*whole_run("r1", 1), *whole_run("r2", 2), *whole_run("r3", 3)]

    expiry = plan_expiry(runs, Rules(last=2), NOW, by=())

    assert [gone.id.rstrip("0") for gone in expiry.removed] == ["r1-verdict", "r1-data", "r1-media"]
    assert reasons(expiry)["r3-verdict"] == reasons(expiry)["r3-data"] == ["last snapshot"]


def test_a_run_that_crosses_midnight_belongs_to_the_day_it_began() -> None:
    late = [member("r1", "data", "2025-06-01T23:59:59Z"), member("r1", "media", "2025-06-02T00:01:00Z")]
    crossing = [*late, verdict("r1", "2025-06-02T00:02:00Z", "data", "media")]

    assert removed(plan_expiry([*crossing, *whole_run("r2", 2)], Rules(daily=2), NOW)) == set()
    assert len(removed(plan_expiry([*crossing, *whole_run("r2", 2)], Rules(daily=1), NOW))) == 3


def test_groups_are_by_host_and_paths_unless_said_otherwise() -> None:
    listed = [
        snapshot("a", "2025-06-01T00:00:00Z"),
        snapshot("b", "2025-06-02T00:00:00Z", host="other"),
        snapshot("c", "2025-06-03T00:00:00Z", paths=("/etc",)),
        snapshot("d", "2025-06-04T00:00:00Z", "x"),
    ]

    assert removed(plan_expiry(listed, LAST, NOW)) == {"a"}
    assert removed(plan_expiry(listed, LAST, NOW, by=())) == {"a", "b", "c"}
    assert removed(plan_expiry(listed, LAST, NOW, by=("tags",))) == {"a", "b"}


def test_runs_of_one_policy_are_one_group_by_tags_too() -> None:
    assert removed(plan_expiry([*whole_run("r1", 1), *whole_run("r2", 2)], LAST, NOW, by=("tags",))) == {
        "r1-data",
        "r1-media",
        "r1-verdict",
    }


def dump(run: str, time: str, cluster: str, policy: str) -> list[Snapshot]:
    """A run of a policy that stores the stream db.sql; `policy` is "" for a Snapshot that was asked for by hand."""
    owner = [f"lowtide:cluster={cluster}", "lowtide:namespace=shop"] + [f"lowtide:policy={policy}"] * bool(policy)
    of_run = (*owner, f"lowtide:run={run}")
    stored = snapshot(f"{run}-db", time, *of_run, "lowtide:stream=db.sql", paths=("/streams/db.sql",))
    said = snapshot(f"{run}-verdict", time, *of_run, "lowtide:verdict", f"lowtide:member={stored.id}", paths=("/v",))
    return [stored, said]


@pytest.mark.parametrize("by", [("host", "paths"), ("tags",), ("host",), ()])
@pytest.mark.parametrize(("cluster", "policy"), [("c1", "orders"), ("c2", "shop"), ("c1", "")])
def test_runs_of_another_policy_or_cluster_take_nobodys_place(by: tuple[str, ...], cluster: str, policy: str) -> None:
    mine = [*dump("r1", "2025-06-01T02:00:00Z", "c1", "shop"), *dump("r3", "2025-06-03T02:00:00Z", "c1", "shop")]
    other = dump("r2", "2025-06-02T02:00:00Z", cluster, policy)

    assert removed(plan_expiry([*mine, *other], LAST, NOW, by=by)) == {"r1-db", "r1-verdict"}


@pytest.mark.parametrize("policy", ["orders", ""])
def test_a_failed_run_of_another_policy_waits_for_a_whole_one_of_its_own(policy: str) -> None:
    failed = dump("r1", "2025-06-01T02:00:00Z", "c1", policy)[:1]

    assert removed(plan_expiry([*failed, *dump("r2", "2025-06-02T02:00:00Z", "c1", "shop")], LAST, NOW)) == set()


@pytest.mark.parametrize(
    "flawed",
    [
        [snapshot("flawed", "2025-06-20T00:00:00Z", "lowtide:partial")],
        [snapshot("flawed", "2025-06-20T00:00:00Z", "lowtide:run=r9")],
        [
            snapshot("flawed", "2025-06-20T00:00:00Z", "lowtide:run=r9"),
            verdict("r9", "2025-06-20T00:00:00Z", "data"),
        ],
    ],
    ids=["partial", "no verdict", "not in the verdict"],
)
def test_what_is_flawed_takes_nobodys_place(flawed: list[Snapshot]) -> None:
    older, newer = snapshot("old", "2025-06-10T00:00:00Z"), snapshot("new", "2025-06-25T00:00:00Z")

    expiry = plan_expiry([older, *flawed, newer], Rules(last=2), NOW)

    assert "old" not in removed(expiry)
    assert "new" not in removed(expiry)
    assert "flawed" in removed(expiry)


def test_what_is_flawed_stays_where_nothing_newer_is_whole() -> None:
    partial = snapshot("partial", "2025-06-20T00:00:00Z", "lowtide:partial")

    after = plan_expiry([snapshot("old", "2025-06-10T00:00:00Z"), partial], LAST, NOW)
    alone = plan_expiry([partial], LAST, NOW)

    assert removed(after) == removed(alone) == set()
    assert reasons(after)["partial"] == ["is partial, and nothing whole that is newer is kept"]
    assert reasons(alone)["partial"] == ["is partial, and nothing whole is kept of its group"]


def test_a_whole_one_that_goes_is_no_reason_to_remove_a_partial_one() -> None:
    listed = [
        snapshot("tagged", "2025-06-01T00:00:00Z", "keep"),
        snapshot("partial", "2025-06-10T00:00:00Z", "lowtide:partial"),
        snapshot("newer", "2025-06-20T00:00:00Z"),
    ]

    assert removed(plan_expiry(listed, Rules(tags=(("keep",),)), NOW)) == {"newer"}


def test_partial_ones_count_where_a_person_says_so() -> None:
    listed = [
        snapshot("old", "2025-06-10T00:00:00Z"),
        snapshot("partial", "2025-06-20T00:00:00Z", "lowtide:partial"),
    ]

    assert removed(plan_expiry(listed, LAST, NOW, allow_partial=True)) == {"old"}


@pytest.mark.parametrize(("hours", "gone"), [(23, set()), (25, {"r9-data"})])
def test_a_run_without_a_verdict_is_left_alone_for_a_day(hours: int, gone: set[str]) -> None:
    begun = Instant.at(NOW.timestamp - hours * 3600)
    listed = [*whole_run("r1", 1), member("r9", "data", str(begun)), *whole_run("r2", 30)]

    assert removed(plan_expiry(listed, Rules(last=2), NOW)) == gone


def test_a_failed_run_is_cleared_away_though_it_lacks_a_claim() -> None:
    listed = [*whole_run("r1", 1), member("r2", "data", "2025-06-02T02:00:00Z"), *whole_run("r3", 3)]

    assert removed(plan_expiry(listed, Rules(last=5), NOW)) == {"r2-data"}


def test_a_run_that_lost_a_member_never_counts() -> None:
    broken = [one for one in whole_run("r2", 2) if "media" not in one.id]

    expiry = plan_expiry([*whole_run("r1", 1), *broken, *whole_run("r3", 3)], Rules(last=2), NOW)

    assert removed(expiry) == {"r2-data", "r2-verdict"}


def test_a_verdict_whose_members_are_gone_goes_too() -> None:
    assert removed(plan_expiry([*whole_run("r2", 2), verdict("r1", "2025-06-01T02:00:00Z", "data")], LAST, NOW)) == {
        "r1-verdict"
    }


def test_a_member_that_was_copied_or_tagged_anew_is_still_one() -> None:
    copied = snapshot("copy", "2025-06-01T02:00:00Z", "lowtide:run=r1", paths=("/volumes/data",), original="r1-data")

    [unit] = units([copied, verdict("r1", "2025-06-01T02:01:00Z", "data")])

    assert unit.flaw == ""
    assert unit.members == (copied,)


def test_a_filter_that_selects_a_part_of_a_run_leaves_it_alone() -> None:
    runs = [*whole_run("r1", 1), *whole_run("r2", 2)]

    part = plan_expiry(runs, LAST, NOW, only=SnapshotFilter(paths=("/volumes/data",)))
    every = plan_expiry(runs, LAST, NOW, only=SnapshotFilter(hosts=("shop",)))

    assert part.removed == []
    assert [unit.run for unit in part.left_alone] == ["r1", "r2"]
    assert removed(every) == {"r1-data", "r1-media", "r1-verdict"}


def test_a_group_of_which_nothing_would_stay_is_refused() -> None:
    with pytest.raises(KeepsNothing, match="/data"):
        plan_expiry([snapshot("a", "2025-06-01T00:00:00Z")], Rules(tags=(("absent",),)), NOW)
    with pytest.raises(KeepsNothing):
        plan_expiry([], Rules(), NOW)


def test_what_a_person_tagged_stays_though_it_is_flawed() -> None:
    listed = [
        snapshot("partial", "2025-06-01T00:00:00Z", "lowtide:partial", "before the move"),
        snapshot("whole", "2025-06-20T00:00:00Z"),
    ]

    rules = Rules(within=Span(days=1), tags=(("before the move",),))

    assert removed(plan_expiry(listed, rules, NOW)) == set()


def test_a_run_can_be_pinned() -> None:
    runs = [*whole_run("r1", 1), *whole_run("r2", 2), *whole_run("r3", 3)]

    expiry = plan_expiry(runs, Rules(last=1, tags=(("lowtide:run=r1",),)), NOW)

    assert removed(expiry) == {"r2-data", "r2-media", "r2-verdict"}
    assert reasons(expiry)["r1-verdict"] == ["has tags [lowtide:run=r1]"]
