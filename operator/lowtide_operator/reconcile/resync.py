"""What happens without being reported: every object is looked at from time to time, and Leases and heartbeats go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import ClusterError, Forbidden, Unreachable
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.cluster.protocol import Cluster, Manifest
from lowtide_operator.planning import naming
from lowtide_operator.planning.allowed import ArgoMode
from lowtide_operator.reconcile.driver import Driver
from lowtide_operator.reconcile.gather import HOLDABLE, Gatherer
from lowtide_operator.reconcile.keys import KIND_OF, Key, Subject
from lowtide_operator.reconcile.leases import NamespaceLeases
from lowtide_operator.reconcile.queue import WorkQueue
from lowtide_operator.reconcile.served import is_going, label, list_if_served

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Found:
    """What one scope has: objects of ours to look at, and the namespaces in which anything is ours."""

    objects: list[tuple[Subject, Manifest]]
    namespaces: set[str]


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
        """One round. Answers the namespaces that hold anything of ours.

        A namespace that may not be listed (it was deleted, and the right to it with it) is left out, and told of.
        Raises ClusterError where no namespace could be listed or an answer did not come; what was found is queued.
        """
        failed: dict[str, ClusterError] = {}
        found: list[_Found] = []
        for scope in self._scopes:
            try:
                found.append(await self._in_or_going(scope))
            except ClusterError as error:
                failed[scope or ""] = error
        objects = [entry for one in found for entry in one.objects]
        namespaces = {name for one in found for name in one.namespaces} | await self._of_applications(failed)
        for namespace in sorted(namespaces):
            self._queue.add(Key(Subject.ORPHANS, namespace))
        for subject, body in objects:
            key = Key(subject, _namespace(body), body["metadata"]["name"])
            if not self._driver.settled(key, body["metadata"]["resourceVersion"]):
                self._queue.add(key)
        self._gatherer.forget_except({body["metadata"]["uid"] for _, body in objects})
        for place, why in failed.items():
            if isinstance(why, Unreachable) or not found:
                raise why
            logger.warning(
                "namespace %s could not be listed, others were. Was it deleted? Take it out of the chart's values. "
                "Was it made anew? Run helm upgrade, which binds the role in it again: %s",
                place,
                why,
            )
        return namespaces

    async def _in_or_going(self, scope: str | None) -> _Found:
        """As `_in`; of a namespace that is being deleted, and with it our rights there, only the runs. (kopf tells
        nothing more of it, either.)"""
        try:
            return await self._in(scope)
        except Forbidden:
            if scope is None or not await is_going(self._cluster, scope):
                raise
        runs = (Subject.SNAPSHOT, Subject.RESTORE)
        left = [(subject, body) for subject in runs for body in await self._cluster.list(KIND_OF[subject], scope)]
        logger.warning("namespace %s is being deleted, or is gone: then take it out of the chart's values", scope)
        return _Found(left, {scope})

    async def _in(self, scope: str | None) -> _Found:
        """What is in a namespace, or anywhere. Raises ClusterError."""
        ours = [(subject, body) for subject, kind in KIND_OF.items() for body in await self._cluster.list(kind, scope)]
        held = [body for kind in HOLDABLE for body in await self._cluster.list(kind, scope, labels=naming.HELD_LABEL)]
        held += await self._if_served(kinds.SCALED_OBJECT, scope, naming.HELD_LABEL)
        copies = await self._copies(scope)
        return _Found(ours, {_namespace(body) for body in (*(body for _, body in ours), *held, *copies)})

    async def _of_applications(self, failed: dict[str, ClusterError]) -> set[str]:
        """The namespaces that are served and whose runs hold an Application elsewhere, or have just let it go."""
        argocd = self._gatherer.argocd
        found: set[str | None] = set()
        for place in argocd.namespaces if argocd.mode is ArgoMode.PAUSE else ():
            try:
                bodies = await self._if_served(kinds.APPLICATION, place, naming.RUN_NAMESPACE_LABEL)
            except ClusterError as error:
                failed[place] = error
            else:
                found |= {label(body, naming.RUN_NAMESPACE_LABEL) for body in bodies}
        return {name for name in found if name and (name in self._scopes or None in self._scopes)}

    async def _copies(self, scope: str | None) -> list[Manifest]:
        """Every copy, and every claim that is marked for a VolumeGroupSnapshot: what its run left may stand in a
        namespace without any run."""
        found = await self._cluster.list(kinds.CLAIM, scope, labels=naming.COPY_LABEL)
        found += await self._cluster.list(kinds.CLAIM, scope, labels=naming.GROUP_SNAPSHOT_LABEL)
        for kind in (kinds.VOLUME_SNAPSHOT, kinds.GROUP_SNAPSHOT):
            found += await self._if_served(kind, scope, naming.COPY_LABEL)
        return found

    async def _if_served(self, kind: Kind, scope: str | None, labels: str) -> list[Manifest]:
        return await list_if_served(self._cluster, kind, scope, labels) or []


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
