"""Which namespaces are ours: those whose Lease `lowtide` this installation holds, so that two never fight.

The holder is the installation, not the process: a restarted operator goes on at once with what it held.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from lowtide_operator.api.values import format_micro_time, parse_time
from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import AlreadyExists, Conflict, Forbidden, NotFound, Unreachable
from lowtide_operator.cluster.protocol import Cluster, Manifest
from lowtide_operator.planning.naming import MANAGED_BY, MANAGED_BY_LABEL
from lowtide_operator.reconcile.served import is_going

logger = logging.getLogger(__name__)

NAME = "lowtide"


def steady() -> float:
    """Seconds that go on counting while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class NamespaceLeases:
    """Takes and keeps Leases for `installation`. `hold` is for how many seconds one counts without being renewed."""

    def __init__(self, cluster: Cluster, installation: str, hold: float, clock: Callable[[], float] = steady) -> None:
        self._cluster = cluster
        self._installation = installation
        self._hold = hold
        self._clock = clock
        self._renewed: dict[str, float] = {}
        self._others: dict[str, str] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    @property
    def renew_every(self) -> float:
        """How often, in seconds, `holds` must be asked for a Lease to be kept."""
        return self._hold / 3

    @property
    def held(self) -> frozenset[str]:
        """The namespaces that were ours when last asked."""
        return frozenset(self._renewed)

    async def holds(self, namespace: str) -> bool:
        """Whether the namespace is ours; takes a Lease that is free, and renews ours when a third of its time is over.

        A namespace that does not exist is nobody else's, nor is one that is being deleted, if its Lease may not be read
        any more. Raises ClusterError; then nothing may be done in it.
        """
        async with self._asking.setdefault(namespace, asyncio.Lock()):
            renewed = self._renewed.get(namespace)
            if renewed is not None and self._clock() - renewed < self.renew_every:
                return True
            self._renewed.pop(namespace, None)
            try:
                return await self._ask(namespace)
            except Unreachable:
                if renewed is not None:
                    self._renewed[namespace] = renewed  # So that it is asked for again, before the Lease runs out.
                raise

    async def _ask(self, namespace: str) -> bool:
        other = await self._take(namespace)
        if other is None:
            if self._others.pop(namespace, None):
                logger.info("namespace %s is ours now", namespace)
            return True
        if self._others.get(namespace) != other:
            self._others[namespace] = other
            logger.warning("namespace %s is left alone: the installation %s holds it", namespace, other)
        return False

    async def _take(self, namespace: str) -> str | None:
        """Take the Lease or renew it where that is due; None where it is ours now, else who holds it."""
        asked = self._clock()
        try:
            lease = await self._cluster.get(kinds.LEASE, namespace, NAME)
        except Forbidden:
            if not await is_going(self._cluster, namespace):
                raise
            return None
        if lease is None:
            return await self._create(namespace, asked)
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._installation) and not self._expired(spec):
            return str(holder)
        age = self._age(spec)
        if holder == self._installation and timedelta() <= age < timedelta(seconds=self.renew_every):
            self._renewed[namespace] = asked - age.total_seconds()
            return None
        patch = {
            "metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]},
            "spec": self._spec(taken=holder != self._installation),
        }
        try:
            await self._cluster.merge_patch(kinds.LEASE, namespace, NAME, patch)
        except (Conflict, NotFound):
            return await self._holder(namespace)
        self._renewed[namespace] = asked
        return None

    async def _create(self, namespace: str, asked: float) -> str | None:
        body: Manifest = {
            "apiVersion": kinds.LEASE.api_version,
            "kind": kinds.LEASE.kind,
            "metadata": {"name": NAME, "namespace": namespace, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
            "spec": self._spec(taken=True),
        }
        try:
            await self._cluster.create(kinds.LEASE, namespace, body)
        except AlreadyExists:
            return await self._holder(namespace)
        except NotFound:
            return None
        except Forbidden:
            if not await is_going(self._cluster, namespace):
                raise
            logger.debug("namespace %s is going: nobody can hold it any more", namespace)
        self._renewed[namespace] = asked
        return None

    async def _holder(self, namespace: str) -> str:
        """Who holds a Lease that changed under our hands. Raises Conflict where it is us or nobody: ask again."""
        lease = await self._cluster.get(kinds.LEASE, namespace, NAME)
        holder = ((lease or {}).get("spec") or {}).get("holderIdentity")
        if holder == self._installation or not holder:
            raise Conflict(f"The Lease {namespace}/{NAME} changed while it was being taken.")
        return str(holder)

    def _expired(self, spec: dict[str, Any]) -> bool:
        return self._age(spec) > timedelta(seconds=spec.get("leaseDurationSeconds") or 0)

    def _age(self, spec: dict[str, Any]) -> timedelta:
        """How long ago it was renewed; a Lease that does not say so is as old as can be."""
        renewed = spec.get("renewTime")
        return self._cluster.now() - parse_time(renewed) if renewed else timedelta.max

    def _spec(self, *, taken: bool) -> dict[str, Any]:
        now = format_micro_time(self._cluster.now())
        spec = {"holderIdentity": self._installation, "leaseDurationSeconds": round(self._hold), "renewTime": now}
        return {**spec, "acquireTime": now} if taken else spec
