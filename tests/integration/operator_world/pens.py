"""Workloads of every kind, each with a claim and a policy of its own, in one world that many tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.planning.naming import HELD_LABEL, HOLD_ANNOTATION, PURPOSE_LABEL, RELEASED_ANNOTATION
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.api import Object
from tests.integration.operator_world.movers import Play, options_of
from tests.integration.operator_world.world import PATIENCE, World, claim, workload

MOVER = {"retry": {"limit": 1, "backoff": "1s"}}


@dataclass
class Pen:
    """A claim `<name>-data` and a policy `name` over it. Whatever a test makes here is named after the pen."""

    world: World
    name: str

    @classmethod
    def build(cls, world: World, name: str, **policy: Any) -> Pen:
        pen = cls(world, name)
        world.api.create(kinds.CLAIM, claim(world.namespace, pen.claim))
        world.policy(name, **{"volumes": {"claims": [pen.claim]}, "mover": MOVER, **policy})
        wait_for(
            "the claim is bound", lambda: pen.get(kinds.CLAIM, pen.claim)["status"]["phase"] == "Bound", within=PATIENCE
        )
        return pen

    @property
    def claim(self) -> str:
        return f"{self.name}-data"

    def add(self, kind: Kind, name: str = "", *, replicas: int = 1, runs: bool = True, **spec: Any) -> str:
        """Create a workload on the claim, wait until it runs, and give its name."""
        name = name or self.name
        body = workload(self.world.namespace, kind, name, self.claim, replicas)
        body["spec"].update(spec)
        self.world.api.create(kind, body)
        if runs:
            self.await_running(kind, name, replicas)
        return name

    def await_running(self, kind: Kind, name: str, replicas: int) -> None:
        """Wait until the workload's controller has seen it, and so many of its pods are ready."""

        def running() -> bool:
            body = self.get(kind, name)
            status = body.get("status") or {}
            seen = status.get("observedGeneration", 0) >= body["metadata"]["generation"]
            return seen and status.get("readyReplicas", 0) == replicas

        wait_for(f"{kind} {name} runs", running, within=PATIENCE, seen=lambda: str(self.get(kind, name)["status"]))

    def snapshot(self, name: str = "") -> str:
        """Start a run over the claim, and give the Snapshot's name."""
        name = name or self.name
        self.world.snapshot(name, policy=self.name)
        return name

    def backups(self, play: Play | Callable[[list[str]], Play]) -> None:
        """Let movers that back up the claim end so, and those of other pens as always."""
        mine = ("--claim", self.claim)

        def script(words: list[str], before: int) -> Play | None:
            if words[0] != "backup" or mine not in options_of(words):
                return None
            return play if isinstance(play, Play) else play(words)

        self.world.movers.script = script

    def await_mover(self) -> str:
        """Wait until a mover has the claim, and give the name of its pod."""

        def running() -> str | None:
            pods = self.world.api.list(kinds.POD, self.world.namespace, f"{PURPOSE_LABEL}=backup")
            mine = [pod for pod in pods if ("--claim", self.claim) in options_of(pod["spec"]["containers"][0]["args"])]
            return next((p["metadata"]["name"] for p in mine if p["status"].get("phase") == "Running"), None)

        return wait_for("a mover has the claim", running, within=PATIENCE, seen=self.seen)

    def states(self, snapshot: str = "") -> dict[str, str]:
        """By workload: what the ledger says came of it."""
        ledger = self.world.status(kinds.SNAPSHOT, snapshot or self.name)["quiesce"]
        return {entry["name"]: entry["state"] for entry in ledger["workloads"]}

    def get(self, kind: Kind, name: str = "") -> Object:
        body = self.world.api.get(kind, self.world.namespace, name or self.name)
        assert body is not None, f"{kind} {name or self.name} is gone"
        return body

    def replicas(self, kind: Kind, name: str = "") -> int:
        count: int = self.get(kind, name)["spec"]["replicas"]
        return count

    def scale(self, kind: Kind, name: str, replicas: int) -> None:
        """Scale it as a person would."""
        self.world.api.patch(kind, self.world.namespace, name, {"spec": {"replicas": replicas}}, "scale")

    def await_down(self, snapshot: str = "") -> Object:
        """Wait until everything that the run stops is gone, and give its ledger."""

        def gone() -> Object | None:
            ledger: Object = self.world.status(kinds.SNAPSHOT, snapshot or self.name).get("quiesce") or {}
            return ledger if ledger.get("goneTime") else None

        return wait_for("all is gone", gone, within=PATIENCE, seen=lambda: self.seen(snapshot))

    def await_quiesced(self, reason: str, words: str) -> None:
        """Wait until the run says `reason` of its quiesce, in a sentence with `words`."""

        def told() -> bool:
            condition = self.world.condition(kinds.SNAPSHOT, self.name, "Quiesced")
            return condition.get("reason") == reason and words in condition["message"]

        wait_for(f"Quiesced is {reason}: {words}", told, within=PATIENCE, seen=self.seen)

    def await_ready(self, snapshot: str = "") -> Object:
        return self.world.await_ready(kinds.SNAPSHOT, snapshot or self.name)

    def await_failed(self, reason: str, snapshot: str = "", *, within: float = PATIENCE) -> str:
        """Wait until the run has failed for `reason`, and give its sentence."""
        ready = self.world.await_end(kinds.SNAPSHOT, snapshot or self.name, within)
        assert (ready["status"], ready["reason"]) == ("False", reason), ready
        return str(ready["message"])

    def assert_untouched(self, kind: Kind, name: str, generation: int, replicas: int | None = None) -> None:
        """Nobody ever changed its spec, and it carries no sign of ours."""
        body = self.get(kind, name)
        assert body["metadata"]["generation"] == generation
        assert body["spec"].get("replicas") == replicas
        self.assert_unmarked(kind, name)

    def assert_unmarked(self, kind: Kind, name: str) -> None:
        """It carries no sign of ours; the mark of a release goes right after the end of the run."""

        def unmarked() -> bool:
            metadata = self.get(kind, name)["metadata"]
            signs = {*metadata.get("labels", {}), *metadata.get("annotations", {})}
            return not signs & {HELD_LABEL, HOLD_ANNOTATION, RELEASED_ANNOTATION}

        wait_for(f"{kind} {name} carries no sign of ours", unmarked, within=PATIENCE)

    def seen(self, snapshot: str = "") -> str:
        return self.world.seen(kinds.SNAPSHOT, snapshot or self.name)
