"""The proof that watching works: a Lease of our own is written, and the change must come back through the watch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import AlreadyExists, ClusterError, Forbidden, NotFound
from lowtide_operator.cluster.protocol import Cluster
from lowtide_operator.planning.naming import MANAGED_BY, MANAGED_BY_LABEL

logger = logging.getLogger(__name__)

BEAT_ANNOTATION = "lowtide.dev/beat"


class Heartbeat:
    """One installation's heartbeat, in the first of `namespaces` that takes it: one of them may be gone. `limit` is how
    many seconds a beat may take to come back."""

    def __init__(
        self,
        cluster: Cluster,
        namespaces: tuple[str, ...],
        installation: str,
        limit: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._namespaces = namespaces
        self._limit = limit
        self._clock = clock
        self._count = 0
        self._run = f"{time.time_ns():x}"
        self._awaited: dict[str, float] = {}
        self._seen = False
        self._failed = "the API server has not been reached yet"
        self.name = f"lowtide-heartbeat-{installation.replace('/', '-')}"[:63].rstrip("-.")

    async def beat(self) -> None:
        """Write the next beat. Where that fails, what the watch has not told proves nothing, and is forgotten."""
        self._count += 1
        value = f"{self._run}.{self._count}"
        written = self._clock()
        self._awaited[value] = written
        try:
            await self._write(value)
        except ClusterError as error:
            self._awaited.clear()
            self._failed = f"the API server does not take the heartbeat: {error}"
            logger.warning("%s", self._failed)
            return
        self._failed = ""

    def heard(self, name: str, value: str | None) -> None:
        """Take note of a Lease that the watch told of. A beat also answers for those before it."""
        if name != self.name or value is None or value not in self._awaited:
            return
        self._seen = True
        written = self._awaited[value]
        self._awaited = {beat: time for beat, time in self._awaited.items() if time > written}

    @property
    def age(self) -> float:
        """For how many seconds the oldest beat that was written has been waited for; 0 where none is."""
        return self._clock() - min(self._awaited.values()) if self._awaited else 0.0

    def problem(self) -> str:
        """Why the operator is no longer alive, or ""."""
        if self.age <= self._limit:
            return ""
        return f"the watch is dead: a heartbeat written {self.age:.0f} s ago has not come back"

    def unready(self) -> str:
        """Why the operator does not work yet, or not now, or ""."""
        if self._failed:
            return self._failed
        return self.problem() or ("" if self._seen else "no heartbeat has come back through the watch yet")

    async def _write(self, value: str) -> None:
        """Where a namespace is gone, the next one has the heartbeat from now on. Raises ClusterError."""
        for left in reversed(range(len(self._namespaces))):
            first, *others = self._namespaces
            try:
                await self._write_in(first, value)
                break
            except (Forbidden, NotFound) as error:
                self._namespaces = (*others, first)
                if not left:
                    raise
                logger.warning("namespace %s takes no heartbeat, %s is to have it: %s", first, others[0], error)

    async def _write_in(self, namespace: str, value: str) -> None:
        patch = {"metadata": {"annotations": {BEAT_ANNOTATION: value}}}
        try:
            await self._cluster.merge_patch(kinds.LEASE, namespace, self.name, patch)
        except NotFound:
            await self._create(namespace, value)

    async def _create(self, namespace: str, value: str) -> None:
        labels = {MANAGED_BY_LABEL: MANAGED_BY}
        metadata = {
            "name": self.name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {BEAT_ANNOTATION: value},
        }
        body = {"apiVersion": kinds.LEASE.api_version, "kind": kinds.LEASE.kind, "metadata": metadata, "spec": {}}
        try:
            await self._cluster.create(kinds.LEASE, namespace, body)
        except AlreadyExists:
            logger.debug("the heartbeat's Lease was made by someone else meanwhile")
