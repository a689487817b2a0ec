"""The handlers: each puts what it saw into the inbox, and nothing else.

Only `on.event`: it writes no annotation and no finalizer, and what it misses the resync finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import kopf

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.connection import load_credentials
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.planning.naming import MANAGED_BY, MANAGED_BY_LABEL, RUN_LABEL
from lowtide_operator.reconcile.inbox import Inbox, Seen
from lowtide_operator.reconcile.keys import Subject

CHILDREN = f"{MANAGED_BY_LABEL}={MANAGED_BY},{RUN_LABEL}"
SELECTORS: dict[Kind, str] = {
    kinds.JOB: CHILDREN,
    kinds.POD: CHILDREN,
    kinds.LEASE: f"{MANAGED_BY_LABEL}={MANAGED_BY}",
}
"""What the API server is asked to leave out of the watches."""


def build_registry(inbox: Inbox, loop: asyncio.AbstractEventLoop) -> kopf.OperatorRegistry:
    """All handlers. They run on kopf's loop and speak to the inbox on `loop`."""
    registry = kopf.OperatorRegistry()

    def tell(report: Callable[..., None], *args: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(report, *args)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        found = await load_credentials()
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            insecure=found.insecure,
            scheme="Bearer" if found.token else None,
            token=found.token,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
        )

    @kopf.on.event(*_where(kinds.BACKUP_POLICY), registry=registry)
    async def policy(event: kopf.RawEvent, meta: kopf.Meta, **_: Any) -> None:
        tell(inbox.policy, _seen(event, meta))

    @kopf.on.event(*_where(kinds.SNAPSHOT), registry=registry)
    async def snapshot(event: kopf.RawEvent, meta: kopf.Meta, spec: kopf.Spec, **_: Any) -> None:
        tell(inbox.run, Subject.SNAPSHOT, _seen(event, meta), spec.get("policyName", ""))

    @kopf.on.event(*_where(kinds.RESTORE), registry=registry)
    async def restore(event: kopf.RawEvent, meta: kopf.Meta, **_: Any) -> None:
        tell(inbox.run, Subject.RESTORE, _seen(event, meta), "")

    @kopf.on.event(*_where(kinds.JOB), registry=registry)
    @kopf.on.event(*_where(kinds.POD), registry=registry)
    async def child(labels: kopf.Labels, **_: Any) -> None:
        tell(inbox.child, dict(labels))

    @kopf.on.event(*_where(kinds.LEASE), registry=registry)
    async def lease(name: str, annotations: kopf.Annotations, **_: Any) -> None:
        tell(inbox.lease, name, dict(annotations))

    return registry


def _where(kind: Kind) -> tuple[str, str, str]:
    return kind.group, kind.version, kind.plural


def _seen(event: kopf.RawEvent, meta: kopf.Meta) -> Seen:
    return Seen(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        generation=meta.get("generation", 0),
        gone=event["type"] == "DELETED",
    )
