"""One look at one object: gather, plan, apply; and what becomes of it when one of them fails.

| what failed | what happens |
|---|---|
| the object changed meanwhile (Conflict) | again in a moment |
| no answer from the API server (Unreachable) | again, later each time, up to 15 s |
| what it needs does not answer, such as a webhook (ServerError) | likewise, and said as below, where it does not pass |
| what has another reason (a quota, a taken name) | said in Ready=Unknown and an Event; again, up to 5 min later |
| a mistake in the operator | logged with its stack, and likewise |
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from lowtide_operator.api.conditions import MAX_MESSAGE
from lowtide_operator.api.values import format_time, parse_duration
from lowtide_operator.cluster.errors import ClusterError, Conflict, ServerError, Unreachable
from lowtide_operator.cluster.protocol import Cluster, Manifest
from lowtide_operator.errors import LowtideError
from lowtide_operator.planning.actions import Announce, Plan, Ref
from lowtide_operator.planning.naming import HELD_LABEL
from lowtide_operator.planning.observed import ObservedOrphans, Uid
from lowtide_operator.reconcile import events
from lowtide_operator.reconcile.apply import Applier
from lowtide_operator.reconcile.backoff import Backoff
from lowtide_operator.reconcile.gather import Gathered, Gatherer, Observed
from lowtide_operator.reconcile.keys import KIND_OF, Key, Subject
from lowtide_operator.reconcile.leases import NamespaceLeases
from lowtide_operator.telemetry import Metrics, condition

logger = logging.getLogger(__name__)

NOT_OURS_SECONDS = 60.0
PASSING_SECONDS = 3.0
"""A wait as long as this shows that the attempts before it failed, too."""
INTERNAL_ERROR = "InternalError"

Planner = Callable[[Observed, datetime], Plan]


class Driver:
    """Looks at objects. Several keys at a time, one key never twice at a time: the queue sees to that."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        gatherer: Gatherer,
        plan: Planner,
        applier: Applier,
        leases: NamespaceLeases,
        metrics: Metrics,
    ) -> None:
        self._cluster = cluster
        self._gatherer = gatherer
        self._plan = plan
        self._applier = applier
        self._leases = leases
        self._metrics = metrics
        self._conflicts: Backoff[Key] = Backoff(0.1, 10)
        self._unreachable: Backoff[Key] = Backoff(1, 15)
        self._failures: Backoff[Key] = Backoff(5, 300)
        self._settled: dict[Key, str] = {}
        self._held_off: dict[Key, int] = {}

    def settled(self, key: Key, resource_version: str) -> bool:
        """Whether the object was looked at in this version, and nothing was or will be to do about it."""
        return self._settled.get(key) == resource_version

    def held_off(self, key: Key, generation: int) -> bool:
        """Whether the object failed in this generation, and waits for its time: that its status was written (by the
        very attempts that fail) is no reason to look earlier."""
        return self._held_off.get(key) == generation

    async def reconcile(self, key: Key) -> float | None:
        """Look at `key` once. Answers in how many seconds to look again; None for only when something changes."""
        began = time.monotonic()
        result, again = await self._guarded(key)
        self._metrics.reconciles.labels(key.subject, result).inc()
        self._metrics.seconds.labels(key.subject).observe(time.monotonic() - began)
        return again

    async def _guarded(self, key: Key) -> tuple[str, float | None]:
        """Which row of the table it was, and when to look again."""
        try:
            if not await self._leases.holds(key.namespace):
                return "not ours", NOT_OURS_SECONDS
            again = await self._once(key)
        except Conflict as error:
            logger.debug("%s: %s", key, error)
            return error.reason, self._conflicts.failed(key)
        except Unreachable as error:
            logger.warning("%s: %s", key, error)
            delay = self._unreachable.failed(key)
            if isinstance(error, ServerError) and delay >= PASSING_SECONDS:
                await self._explain(key, error.reason, str(error))
            return error.reason, delay
        except LowtideError as error:
            logger.error("%s: %s", key, error)
            await self._explain(key, error.reason, str(error))
            return error.reason, self._failures.failed(key)
        except Exception as error:
            logger.exception("%s: a mistake in the operator", key)
            await self._explain(
                key,
                INTERNAL_ERROR,
                f"The operator made a mistake ({type(error).__name__}); its log has the details. It tries again.",
            )
            return INTERNAL_ERROR, self._failures.failed(key)
        for backoff in (self._conflicts, self._unreachable, self._failures):
            backoff.succeeded(key)
        self._held_off.pop(key, None)
        return "done", again

    async def _once(self, key: Key) -> float | None:
        self._settled.pop(key, None)
        gathered = await self._gatherer.gather(key)
        if gathered is None:
            if key.subject is Subject.POLICY:
                self._metrics.policy(key.namespace, key.name, None)
            return None
        plan = self._plan(gathered.observed, gathered.now)
        written = await self._applier.apply(plan.actions, gathered.body, gathered.now)
        if written:
            logger.debug("%s: %s", key, ", ".join(type(action).__name__ for action in plan.actions))
        elif plan.requeue_after is None and gathered.body is not None:
            self._settled[key] = gathered.body["metadata"]["resourceVersion"]
        self._show(key, gathered, plan)
        return plan.requeue_after

    def _show(self, key: Key, gathered: Gathered, plan: Plan) -> None:
        """Bring the metrics up to what is known now."""
        if isinstance(gathered.observed, ObservedOrphans):
            held = sum(1 for workload in gathered.observed.workloads if HELD_LABEL in workload.meta.labels)
            self._metrics.held.labels(key.namespace).set(held)
            return
        before: Mapping[str, Any] = (gathered.body or {}).get("status") or {}
        after: Mapping[str, Any] = before if plan.status is None else plan.status
        if key.subject is Subject.POLICY:
            self._metrics.policy(key.namespace, key.name, after)
        elif is_terminal(after) and not is_terminal(before):
            self._ended(key, after)

    def _ended(self, key: Key, status: Mapping[str, Any]) -> None:
        ready = condition(status, "Ready")
        good, reason = ready.get("status") == "True", str(ready.get("reason"))
        logger.info("%s ended: %s (%s)", key, reason, ready.get("message"))
        self._metrics.runs.labels(key.subject, key.namespace, "good" if good else "failed", reason).inc()
        method = ((status.get("resolved") or {}).get("capture") or {}).get("method", "")
        ledger = status.get("quiesce") or {}
        if ledger.get("startTime") and ledger.get("readyTime"):
            began, ended = (datetime.fromisoformat(ledger[name]) for name in ("startTime", "readyTime"))
            self._metrics.downtime.labels(key.subject, method).observe((ended - began).total_seconds())
        if upload := status.get("upload"):
            self._metrics.upload.labels(key.subject, method).observe(parse_duration(upload).total_seconds())

    async def _explain(self, key: Key, reason: str, message: str) -> None:
        """Say on the object itself why it stands still: Ready=Unknown and an Event. Never on a run that has ended.

        Best effort: what fails here is logged, and the object is looked at again anyway.
        """
        if key.subject is Subject.ORPHANS:
            return
        kind = KIND_OF[key.subject]
        try:
            body = await self._cluster.get(kind, key.namespace, key.name)
            if body is None:
                return
            self._held_off[key] = body["metadata"].get("generation", 0)
            if is_terminal(body.get("status") or {}) or _says(body, reason, message):
                return
            now = self._cluster.now()
            version = body["metadata"]["resourceVersion"]
            patch = {
                "metadata": {"resourceVersion": version},
                "status": {"conditions": _with_ready_unknown(body, reason, message, now)},
            }
            await self._cluster.merge_patch(kind, key.namespace, key.name, patch, subresource="status")
        except ClusterError as error:
            logger.warning("%s: %s could not be said in its status: %s", key, reason, error)
            return
        ref = Ref(kind.api_version, kind.kind, key.namespace, key.name, Uid(body["metadata"]["uid"]))
        await events.post(self._cluster, Announce(ref, True, reason, message), now)


def is_terminal(status: Mapping[str, Any]) -> bool:
    """Whether a run with this status (JSON) has ended, for good or ill."""
    return bool(status.get("endTime"))


def _says(body: Manifest, reason: str, message: str) -> bool:
    ready = condition(body.get("status") or {}, "Ready")
    return (ready.get("status"), ready.get("reason"), ready.get("message")) == (
        "Unknown",
        reason,
        message[:MAX_MESSAGE],
    )


def _with_ready_unknown(body: Manifest, reason: str, message: str, now: datetime) -> list[dict[str, Any]]:
    """The object's conditions, in JSON, with Ready Unknown; it must work where a status does not parse."""
    conditions = [dict(entry) for entry in (body.get("status") or {}).get("conditions") or ()]
    former = next((entry for entry in conditions if entry.get("type") == "Ready"), {})
    since = former.get("lastTransitionTime") if former.get("status") == "Unknown" else None
    ready = {
        "type": "Ready",
        "status": "Unknown",
        "reason": reason,
        "message": message[:MAX_MESSAGE],
        "lastTransitionTime": since or format_time(now),
        "observedGeneration": body["metadata"].get("generation", 0),
    }
    return [*(entry for entry in conditions if entry.get("type") != "Ready"), ready]
