"""Hooks against a real API server: each is one Job, and runs once, wherever the operator is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lowtide_operator.cluster import kinds
from tests.cluster.controlplane import ControlPlane
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.movers import Play, failure
from tests.integration.operator_world.process import Operator
from tests.integration.operator_world.world import PATIENCE, World, world

pytestmark = pytest.mark.apiserver

HOOKS = {
    "before": [{"workload": {"kind": "StatefulSet", "name": "db"}, "command": ["sh", "-c", "echo $(HOME) $$"]}],
    "after": [{"podSelector": {"matchLabels": {"app": "web"}}, "command": ["sync"], "timeout": "30s"}],
}
BEFORE, AFTER = "--hook=before-1", "--hook=after-1"


@pytest.fixture
def shop(control_plane: ControlPlane, tmp_path: Path) -> Iterator[World]:
    with world(control_plane, tmp_path) as made:
        made.operator = Operator(
            control_plane.kubeconfig,
            tmp_path / "operator.log",
            made.namespace,
            exec_namespaces=made.namespace,
            exec_account="default",
        )
        made.operator.start()
        yield made


def outcomes(shop: World) -> dict[str, str]:
    return {hook["name"]: hook.get("outcome", "") for hook in shop.status(kinds.SNAPSHOT, "first").get("hooks", [])}


def hook_jobs(shop: World) -> list[Any]:
    bodies = shop.api.list(kinds.JOB, shop.namespace)
    return [body for body in bodies if body["metadata"]["labels"].get("lowtide.dev/purpose", "").endswith("-hook")]


def test_an_operator_that_is_killed_at_every_step_of_the_hooks_runs_each_of_them_once(shop: World) -> None:
    seen: dict[str, str] = {}
    counts: dict[str, dict[str, int]] = {}

    def play(words: list[str], before: int) -> Play | None:
        if words[0] in (BEFORE, AFTER):
            counts[words[0]] = shop.counts()
        return None

    def noted(hook: str, field: str) -> bool:
        for job in hook_jobs(shop):
            seen[job["metadata"]["uid"]] = job["metadata"]["name"]
        hooks = shop.status(kinds.SNAPSHOT, "first").get("hooks", [])
        return any(known["name"] == hook and field in known for known in hooks)

    shop.movers.script = play
    shop.policy(hooks=HOOKS, capture={"method": "Direct"})
    shop.snapshot()
    for hook, field in [(h, f) for h in ("before-1", "after-1") for f in ("startTime", "outcome")]:
        wait_for(
            f"{field} of {hook}",
            lambda hook=hook, field=field: noted(hook, field),  # type: ignore[misc]
            within=PATIENCE,
            every=0.01,
            seen=lambda: shop.seen(kinds.SNAPSHOT, "first"),
        )
        shop.operator.kill()
        noted(hook, field)
        shop.operator.start()
    shop.await_ready(kinds.SNAPSHOT, "first")
    assert (shop.movers.count(BEFORE), shop.movers.count(AFTER)) == (1, 1)
    assert counts == {BEFORE: shop.wanted_counts(), AFTER: shop.wanted_counts()}
    assert len(set(seen.values())) == len(seen), "no Job of a hook was made twice"
    assert outcomes(shop) == {"before-1": "Succeeded", "after-1": "Succeeded"}
    shop.assert_back()
    wait_for("no Job of a hook is left", lambda: not hook_jobs(shop), within=PATIENCE)


def test_what_a_hooks_pod_gets_is_what_the_policy_says(shop: World) -> None:
    shop.movers.script = lambda words, before: Play(hang=True) if words[0] == BEFORE else None
    shop.policy(hooks=HOOKS)
    shop.snapshot()
    wait_for("the hook runs", lambda: shop.movers.count(BEFORE), within=PATIENCE, seen=shop.operator.tail)
    (job,) = hook_jobs(shop)
    pod = job["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["containers"][0]["command"]) == ("default", ["lowtide-hook"])
    (words,) = [words for words in shop.movers.commands if words[0] == BEFORE]
    assert "--selector=app=db" in words
    assert words[words.index("--") + 1 :] == ["sh", "-c", "echo $$(HOME) $$$$"]
    assert shop.counts() == shop.wanted_counts(), "nothing is stopped yet"
    # Deleted meanwhile: the hook is ended, and what undoes it runs before the object goes.
    shop.api.delete(kinds.SNAPSHOT, shop.namespace, "first")
    shop.await_gone(kinds.SNAPSHOT, "first")
    assert shop.movers.count(AFTER) == 1
    assert shop.movers.count("backup") == 0
    shop.assert_back()


def test_a_hook_that_fails_is_told_in_its_own_words_and_those_after_run_where_the_backup_failed(shop: World) -> None:
    def play(words: list[str], before: int) -> Play | None:
        if words[0] == BEFORE:
            return failure("hook", "CommandFailed", "The command ended with exit code 3.")
        return failure("backup", "StorageFull", "full") if words[0] == "backup" else None

    shop.movers.script = play
    before = [{**HOOKS["before"][0], "onError": "Continue"}]
    shop.policy(hooks={**HOOKS, "before": before})
    shop.snapshot()
    ready = shop.await_end(kinds.SNAPSHOT, "first")
    assert (ready["status"], ready["reason"]) == ("False", "StorageFull")
    assert outcomes(shop) == {"before-1": "Failed", "after-1": "Succeeded"}
    told = [event for event in shop.api.list(kinds.EVENT, shop.namespace) if event["reason"] == "HookFailed"]
    assert [event["type"] for event in told] == ["Warning"]
    assert "exit code 3" in told[0].get("note", told[0].get("message", ""))
    shop.assert_back()
