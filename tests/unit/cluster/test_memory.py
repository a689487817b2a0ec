"""The stand-in keeps the API server's rules, or every test on it means nothing."""

from __future__ import annotations

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import AlreadyExists, Conflict, NotFound
from lowtide_operator.cluster.memory import MemoryCluster

JOB = {"metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"n": 1}, "status": {"active": 1}}


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


async def test_what_is_created_has_a_uid_a_version_a_generation_and_no_status(cluster: MemoryCluster) -> None:
    made = await cluster.create(kinds.JOB, "shop", JOB)
    assert made["metadata"]["uid"]
    assert made["metadata"]["resourceVersion"]
    assert made["metadata"]["generation"] == 1
    assert "status" not in made
    with pytest.raises(AlreadyExists):
        await cluster.create(kinds.JOB, "shop", JOB)


async def test_a_patch_with_an_old_version_or_another_uid_is_a_conflict(cluster: MemoryCluster) -> None:
    made = await cluster.create(kinds.JOB, "shop", JOB)
    old = made["metadata"]["resourceVersion"]
    await cluster.merge_patch(kinds.JOB, "shop", "a", {"spec": {"n": 2}})
    for metadata in ({"resourceVersion": old}, {"uid": "another"}):
        with pytest.raises(Conflict):
            await cluster.merge_patch(kinds.JOB, "shop", "a", {"metadata": metadata, "spec": {"n": 3}})
    with pytest.raises(NotFound):
        await cluster.merge_patch(kinds.JOB, "shop", "b", {})


async def test_spec_and_status_are_written_apart_and_only_the_spec_counts_as_a_generation(
    cluster: MemoryCluster,
) -> None:
    await cluster.create(kinds.JOB, "shop", JOB)
    after = await cluster.merge_patch(kinds.JOB, "shop", "a", {"spec": {"n": 2}, "status": {"active": 9}})
    assert "status" not in after
    assert after["metadata"]["generation"] == 2
    after = await cluster.merge_patch(
        kinds.JOB, "shop", "a", {"spec": {"n": 3}, "status": {"active": 9}}, subresource="status"
    )
    assert after["spec"] == {"n": 2}
    assert after["status"] == {"active": 9}
    assert after["metadata"]["generation"] == 2


async def test_a_patch_that_changes_nothing_keeps_the_version(cluster: MemoryCluster) -> None:
    made = await cluster.create(kinds.JOB, "shop", JOB)
    after = await cluster.merge_patch(kinds.JOB, "shop", "a", {"spec": {"n": 1}})
    assert after["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_deletion_waits_for_finalizers_and_takes_what_was_owned(cluster: MemoryCluster) -> None:
    owner = await cluster.create(kinds.JOB, "shop", {"metadata": {"name": "a", "finalizers": ["f"]}})
    reference = [{"uid": owner["metadata"]["uid"], "kind": "Job", "name": "a", "apiVersion": "batch/v1"}]
    await cluster.create(kinds.POD, "shop", {"metadata": {"name": "p", "ownerReferences": reference}})
    with pytest.raises(Conflict):
        await cluster.delete(kinds.JOB, "shop", "a", uid="another")
    await cluster.delete(kinds.JOB, "shop", "a", uid=owner["metadata"]["uid"])
    there = await cluster.get(kinds.JOB, "shop", "a")
    assert there is not None
    assert "deletionTimestamp" in there["metadata"]
    await cluster.merge_patch(kinds.JOB, "shop", "a", {"metadata": {"finalizers": None}})
    assert await cluster.get(kinds.JOB, "shop", "a") is None
    assert await cluster.get(kinds.POD, "shop", "p") is None
    await cluster.delete(kinds.JOB, "shop", "a")


@pytest.mark.parametrize(
    ("selector", "found"), [("x=1", True), ("x=2", False), ("x!=2", True), ("x", True), ("!x", False), ("x=1,y", False)]
)
async def test_label_selectors(cluster: MemoryCluster, selector: str, found: bool) -> None:
    await cluster.create(kinds.JOB, "shop", JOB)
    assert bool(await cluster.list(kinds.JOB, "shop", labels=selector)) is found
    assert await cluster.list(kinds.JOB, "elsewhere") == []
