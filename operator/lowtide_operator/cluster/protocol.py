"""What the rest of the operator may ask of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from lowtide_operator.cluster.kinds import Kind

Manifest = dict[str, Any]
"""An object as the API speaks of it: the JSON document, with the API's own field names."""


class Cluster(Protocol):
    """A Kubernetes cluster. Every call reads or writes the API server itself, never a cache.

    Every call may raise errors.Unreachable (no answer, or one that says try again: whether a write was done is then
    not known; also where the kind is not served yet), Forbidden (rights or quota) and Rejected (the object is not
    acceptable). What else, is said there.
    """

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """One object, or None where there is none."""

    async def list(self, kind: Kind, namespace: str | None, *, labels: str = "", fields: str = "") -> list[Manifest]:
        """All objects, in no promised order; `namespace` None means every namespace.

        `labels` and `fields` are selectors as the API writes them ("a=b,c").
        """

    async def create(self, kind: Kind, namespace: str | None, body: Mapping[str, Any]) -> Manifest:
        """Create an object and return it as stored. Raises AlreadyExists, NotFound (no such namespace)."""

    async def merge_patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any], *, subresource: str = ""
    ) -> Manifest:
        """Apply a JSON merge patch in one step and return the object.

        A `metadata.resourceVersion` in the patch makes it conditional. Raises Conflict, NotFound. Idempotent.
        """

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        propagation: str = "Background",
    ) -> None:
        """Ask for an object's deletion; it may take time. One that is gone is no error.

        With `uid` or `resource_version`, only that very object: Conflict where another has its place.
        """

    async def log(self, namespace: str, pod: str, container: str, *, tail_lines: int, limit_bytes: int) -> str:
        """The end of a container's log, each line after its time (RFC 3339) and a space; empty where none.

        An answer is waited for only shortly: a log is never worth holding up anything.
        """

    def now(self) -> datetime:
        """The API server's time (UTC): that of its last answer plus what has passed since. RuntimeError before one."""
