"""What happens without being reported: every object is looked at from time to time, and Leases and heartbeats go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import ClusterError
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.cluster.protocol import Cluster, Manifest
from lowtide_operator.planning import naming
from lowtide_operator.planning.allowed import ArgoMode
from lowtide_operator.reconcile.driver import Driver
from lowtide_operator.reconcile.gather import HOLDABLE, Gatherer
from lowtide_operator.reconcile.keys import KIND_OF, Key, Subject
from lowtide_operator.reconcile.leases import NamespaceLeases
from lowtide_operator.reconcile.queue import WorkQueue
from lowtide_operator.reconcile.served import label, list_if_served

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5.0


class Resync:
    """Puts every object of the `namespaces` served (empty: all) into the queue, orphans first."""

    def __init__(
        self, cluster: Cluster, namespaces: tuple[str, ...], queue: WorkQueue[Key], driver: Driver, gatherer: Gatherer
    ) -> None:
        self._cluster = cluster
        self._scopes: tuple[str | None, ...] = namespaces or (None,)
        self._queue = queue
        self._driver = driver
        self._gatherer = gatherer

    async def once(self) -> set[str]:
        """One round. Answers the namespaces that hold anything of ours. Raises ClusterError."""
        ours = {subject: await self._all(kind) for subject, kind in KIND_OF.items()}
        held = [body for kind in HOLDABLE for body in await self._all(kind, naming.HELD_LABEL)]
        held += await self._if_served(kinds.SCALED_OBJECT, naming.HELD_LABEL)
        copies = await self._copies()
        bodies = [body for found in ours.values() for body in found]
        namespaces = {_namespace(body) for body in (*bodies, *held, *copies)} | await self._of_applications()
        for namespace in sorted(namespaces):
            self._queue.add(Key(Subject.ORPHANS, namespace))
        for subject, found in ours.items():
            for body in found:
                key = Key(subject, _namespace(body), body["metadata"]["name"])
                if not self._driver.settled(key, body["metadata"]["resourceVersion"]):
                    self._queue.add(key)
        self._gatherer.forget_except({body["metadata"]["uid"] for body in bodies})
        return namespaces

    async def _of_applications(self) -> set[str]:
        """The namespaces that are served and whose runs hold an Application elsewhere, or have just let it go."""
        argocd = self._gatherer.argocd
        found: set[str | None] = set()
        for place in argocd.namespaces if argocd.mode is ArgoMode.PAUSE else ():
            bodies = await list_if_served(self._cluster, kinds.APPLICATION, place, naming.RUN_NAMESPACE_LABEL)
            found |= {label(body, naming.RUN_NAMESPACE_LABEL) for body in bodies or ()}
        return {name for name in found if name and (name in self._scopes or None in self._scopes)}

    async def _copies(self) -> list[Manifest]:
        """Every copy, and every claim that is marked for a VolumeGroupSnapshot: what its run left may stand in a
        namespace without any run."""
        found = await self._all(kinds.CLAIM, naming.COPY_LABEL)
        found += await self._all(kinds.CLAIM, naming.GROUP_SNAPSHOT_LABEL)
        for kind in (kinds.VOLUME_SNAPSHOT, kinds.GROUP_SNAPSHOT):
            found += await self._if_served(kind, naming.COPY_LABEL)
        return found

    async def _if_served(self, kind: Kind, labels: str) -> list[Manifest]:
        pages = [await list_if_served(self._cluster, kind, scope, labels) for scope in self._scopes]
        return [body for page in pages for body in page or ()]

    async def _all(self, kind: Kind, labels: str = "") -> list[Manifest]:
        pages = [await self._cluster.list(kind, scope, labels=labels) for scope in self._scopes]
        return [body for page in pages for body in page]


async def resync_forever(resync: Resync, every: float) -> None:
    """Look at everything now, and then every `every` seconds; sooner after a round that failed."""
    while True:
        try:
            await resync.once()
        except ClusterError as error:
            logger.warning("not every object could be listed, trying again soon: %s", error)
            await asyncio.sleep(min(every, RETRY_SECONDS))
        else:
            await asyncio.sleep(every)


async def keep_leases(leases: NamespaceLeases) -> None:
    """Renew what is held before it runs out, for ever."""
    while True:
        await asyncio.sleep(leases.renew_every / 4)
        for namespace in sorted(leases.held):
            try:
                await leases.holds(namespace)
            except ClusterError as error:
                logger.warning("the Lease of namespace %s could not be renewed: %s", namespace, error)


async def every(seconds: float, act: Callable[[], Awaitable[Any]]) -> None:
    """Do `act` now and then every `seconds`, for ever."""
    while True:
        await act()
        await asyncio.sleep(seconds)


def _namespace(body: Manifest) -> str:
    namespace: str = body["metadata"]["namespace"]
    return namespace
