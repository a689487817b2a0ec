"""A cluster in memory, for tests: the API server's rules for writes, and faults on demand. Nothing acts by itself.

It keeps what a planner's correctness hangs on: resource versions and conflicts, uids, generations, the status
subresource, finalizers, owner references, label selectors. It has no schema, no defaults and no admission.
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import AlreadyExists, Conflict, NotFound
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.cluster.protocol import Manifest

START = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
WITH_STATUS = frozenset({kinds.BACKUP_POLICY, kinds.SNAPSHOT, kinds.RESTORE, kinds.JOB, kinds.POD, kinds.DEPLOYMENT,
                         kinds.STATEFUL_SET, kinds.CLAIM})  # fmt: skip

Key = tuple[Kind, str | None, str]


@dataclass(frozen=True, slots=True)
class Call:
    """One call that was made: the verb ("get", "list", "create", "patch", "delete", "log") and on what."""

    verb: str
    kind: Kind
    namespace: str | None
    name: str
    subresource: str = ""

    @property
    def mutates(self) -> bool:
        return self.verb in ("create", "patch", "delete")


@dataclass
class MemoryCluster:
    """Implements Cluster over a dictionary. Change the world by `put` and `remove`, pass time by `advance`."""

    time: datetime = START
    calls: list[Call] = field(default_factory=list)
    fault: Callable[[Call], BaseException | None] = field(default=lambda call: None)
    """Asked before each call; what it answers is raised, and the call isn't done."""
    fault_after: Callable[[Call], BaseException | None] = field(default=lambda call: None)
    """Asked after each call: the call is done, and its answer lost."""
    logs: dict[tuple[str, str], str] = field(default_factory=dict)
    objects: dict[Key, Manifest] = field(default_factory=dict)
    stale: dict[Key, Manifest | None] = field(default_factory=dict)
    """What `get` and `list` answer in place of the truth, by key (None: not there), until it is taken out."""
    _version: int = 0

    def now(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.time += timedelta(seconds=seconds)

    def put(self, kind: Kind, body: Mapping[str, Any]) -> Manifest:
        """Create or replace an object as some other actor would: no fault, no call in the record, status included."""
        manifest = copy.deepcopy(dict(body))
        metadata = manifest["metadata"]
        key = (kind, metadata.get("namespace") if kind.namespaced else None, metadata["name"])
        before = self.objects.get(key)
        manifest.setdefault("apiVersion", kind.api_version)
        manifest.setdefault("kind", kind.kind)
        metadata.setdefault("uid", before["metadata"]["uid"] if before else str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", self._timestamp())
        if "generation" not in metadata:
            metadata["generation"] = before["metadata"].get("generation", 1) if before else 1
            if before is not None and before.get("spec") != manifest.get("spec"):
                metadata["generation"] += 1
        self._store(key, manifest)
        return copy.deepcopy(manifest)

    def remove(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Take an object out, whatever its finalizers, and what it alone owns with it."""
        gone = self.objects.pop((kind, namespace, name), None)
        if gone is not None:
            self._collect(gone["metadata"]["uid"])

    def peek(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """The object as it truly is: no fault, no stale answer, no call in the record."""
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    def all(self, kind: Kind) -> list[Manifest]:
        """Every object of a kind, as `peek` would show it, by name."""
        found = [body for (of, _, _), body in self.objects.items() if of == kind]
        return copy.deepcopy(sorted(found, key=lambda body: body["metadata"]["name"]))

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        await self._begin(call := Call("get", kind, namespace, name))
        key = (kind, namespace if kind.namespaced else None, name)
        answer = copy.deepcopy(self.stale[key] if key in self.stale else self.objects.get(key))
        self._end(call)
        return answer

    async def list(self, kind: Kind, namespace: str | None, *, labels: str = "", fields: str = "") -> list[Manifest]:
        await self._begin(call := Call("list", kind, namespace, ""))
        shown = {**self.objects, **self.stale}
        found = [
            copy.deepcopy(body)
            for (of, where, _), body in shown.items()
            if body is not None and of == kind and (namespace is None or where == namespace)
            if _selected(body["metadata"].get("labels") or {}, labels) and _fields_match(body, fields)
        ]
        self._end(call)
        return found

    async def create(self, kind: Kind, namespace: str | None, body: Mapping[str, Any]) -> Manifest:
        name = body["metadata"].get("name") or f"{body['metadata']['generateName']}{uuid.uuid4().hex[:5]}"
        await self._begin(call := Call("create", kind, namespace, name))
        key = (kind, namespace if kind.namespaced else None, name)
        if key in self.objects:
            raise AlreadyExists(f"creating {kind} {name}: it already exists")
        manifest = copy.deepcopy(dict(body))
        manifest.setdefault("apiVersion", kind.api_version)
        manifest.setdefault("kind", kind.kind)
        if kind in WITH_STATUS:
            manifest.pop("status", None)
        metadata = manifest["metadata"]
        metadata.update(name=name, uid=str(uuid.uuid4()), creationTimestamp=self._timestamp(), generation=1)
        if namespace is not None and kind.namespaced:
            metadata["namespace"] = namespace
        self._store(key, manifest)
        self._end(call)
        return copy.deepcopy(manifest)

    async def merge_patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any], *, subresource: str = ""
    ) -> Manifest:
        await self._begin(call := Call("patch", kind, namespace, name, subresource))
        key = (kind, namespace if kind.namespaced else None, name)
        before = self.objects.get(key)
        if before is None:
            raise NotFound(f"patching {kind} {name}: not found")
        for precondition in ("resourceVersion", "uid"):
            expected = (patch.get("metadata") or {}).get(precondition)
            if expected is not None and expected != before["metadata"][precondition]:
                raise Conflict(f"patching {kind} {name}: the object has been modified")
        after = _merged(before, patch)
        if kind in WITH_STATUS:
            if subresource == "status":
                after = {**copy.deepcopy(before), "status": after.get("status") or {}}
            elif "status" in before:
                after["status"] = copy.deepcopy(before["status"])
            else:
                after.pop("status", None)
        for fixed in ("uid", "creationTimestamp", "name", "namespace", "deletionTimestamp", "generation"):
            if fixed in before["metadata"]:
                after["metadata"][fixed] = before["metadata"][fixed]
        after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
        if after != before:
            if after.get("spec") != before.get("spec"):
                after["metadata"]["generation"] = before["metadata"].get("generation", 0) + 1
            self._store(key, after)
        self._finalize(key)
        self._end(call)
        return copy.deepcopy(after)

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
        await self._begin(call := Call("delete", kind, namespace, name))
        key = (kind, namespace if kind.namespaced else None, name)
        found = self.objects.get(key)
        if found is not None:
            metadata = found["metadata"]
            if (uid and uid != metadata["uid"]) or (
                resource_version and resource_version != metadata["resourceVersion"]
            ):
                raise Conflict(f"deleting {kind} {name}: another object has its place")
            if "deletionTimestamp" not in metadata:
                metadata["deletionTimestamp"] = self._timestamp()
                self._store(key, found)
            self._finalize(key)
        self._end(call)

    async def log(self, namespace: str, pod: str, container: str, *, tail_lines: int, limit_bytes: int) -> str:
        await self._begin(call := Call("log", kinds.POD, namespace, pod, container))
        text = "\n".join(self.logs.get((namespace, pod), "").splitlines()[-tail_lines:])
        self._end(call)
        return text[-limit_bytes:]

    async def _begin(self, call: Call) -> None:
        await asyncio.sleep(0)  # where a request goes out, others get their turn
        self.calls.append(call)
        error = self.fault(call)
        if error is not None:
            raise error

    def _end(self, call: Call) -> None:
        error = self.fault_after(call)
        if error is not None:
            raise error

    def _store(self, key: Key, manifest: Manifest) -> None:
        self._version += 1
        manifest["metadata"]["resourceVersion"] = str(self._version)
        self.objects[key] = manifest

    def _finalize(self, key: Key) -> None:
        metadata = self.objects[key]["metadata"]
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            del self.objects[key]
            self._collect(metadata["uid"])

    def _collect(self, owner: str) -> None:
        """What only `owner` owned goes too, as the garbage collector would have it."""
        for (kind, namespace, name), body in list(self.objects.items()):
            owners = [reference["uid"] for reference in body["metadata"].get("ownerReferences") or []]
            if owners == [owner]:
                self.remove(kind, namespace, name)

    def _timestamp(self) -> str:
        return self.time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(copy.deepcopy(target)) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def _selected(labels: Mapping[str, str], selector: str) -> bool:
    """Equality, inequality, `key` and `!key`, joined by commas."""
    for term in filter(None, (part.strip() for part in selector.split(","))):
        if "!=" in term:
            name, _, value = term.partition("!=")
            if labels.get(name.strip()) == value.strip():
                return False
        elif "=" in term:
            name, _, value = term.replace("==", "=").partition("=")
            if labels.get(name.strip()) != value.strip():
                return False
        elif term.startswith("!"):
            if term[1:] in labels:
                return False
        elif term not in labels:
            return False
    return True


def _fields_match(body: Manifest, selector: str) -> bool:
    for term in filter(None, selector.split(",")):
        path, _, expected = term.partition("=")
        value: Any = body
        for part in path.split("."):
            value = (value or {}).get(part)
        if str(value or "") != expected:
            return False
    return True
