"""The cluster behind a real API server, over the official client's transport.

Requests are raw: the typed models of the client cost tens of megabytes, and a merge patch needs its content type said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException

from lowtide_operator.cluster.clock import ServerClock
from lowtide_operator.cluster.connection import load_configuration
from lowtide_operator.cluster.errors import NotFound, Rejected, Unreachable, from_status
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.cluster.protocol import Manifest

MERGE_PATCH = "application/merge-patch+json"
PAGE = 500
REQUEST_SECONDS = 15.0
LOG_SECONDS = 4.0
CONNECT_SECONDS = 5.0


class KubernetesCluster:
    """Implements Cluster. To be closed: `async with await KubernetesCluster.connect() as cluster`."""

    def __init__(self, configuration: Configuration) -> None:
        self._client = ApiClient(configuration)
        self._clock = ServerClock()

    @classmethod
    async def connect(cls) -> Self:
        """A client for the cluster that the environment names. Does not reach it yet. Raises connection.NoCluster."""
        return cls(await load_configuration())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; calls that are running fail."""
        await self._client.close()

    def now(self) -> datetime:
        return self._clock.now()

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        try:
            return await self._json("GET", kind.path(namespace, name), what=f"reading {kind} {_at(namespace, name)}")
        except NotFound:
            return None

    async def list(self, kind: Kind, namespace: str | None, *, labels: str = "", fields: str = "") -> list[Manifest]:
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        found: list[Manifest] = []
        while True:
            page = await self._json("GET", kind.path(namespace), query=query, what=f"listing {kind.plural}")
            found.extend(page.get("items") or [])
            following = (page.get("metadata") or {}).get("continue")
            if not following:
                for item in found:
                    item.setdefault("apiVersion", kind.api_version)
                    item.setdefault("kind", kind.kind)
                return found
            query["continue"] = following

    async def create(self, kind: Kind, namespace: str | None, body: Mapping[str, Any]) -> Manifest:
        name = body["metadata"].get("name") or body["metadata"].get("generateName", "")
        what = f"creating {kind} {_at(namespace, name)}"
        return await self._json("POST", kind.path(namespace), body=body, what=what)

    async def merge_patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any], *, subresource: str = ""
    ) -> Manifest:
        what = f"patching {subresource + ' of ' if subresource else ''}{kind} {_at(namespace, name)}"
        path = kind.path(namespace, name, subresource)
        return await self._json("PATCH", path, body=patch, content_type=MERGE_PATCH, what=what)

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
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if any(preconditions.values()):
            options["preconditions"] = {key: value for key, value in preconditions.items() if value}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self._json(
                "DELETE", kind.path(namespace, name), body=options, what=f"deleting {kind} {_at(namespace, name)}"
            )
        except NotFound:
            return

    async def log(self, namespace: str, pod: str, container: str, *, tail_lines: int, limit_bytes: int) -> str:
        query = {
            "container": container,
            "tailLines": str(tail_lines),
            "limitBytes": str(limit_bytes),
            "timestamps": "true",
        }
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        try:
            what = f"reading the log of pod {_at(namespace, pod)}"
            data = await self._request("GET", path, query=query, what=what, seconds=LOG_SECONDS)
        except (NotFound, Rejected):
            return ""
        return data.decode(errors="replace")

    async def _json(
        self,
        method: str,
        path: str,
        *,
        what: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Manifest:
        data = await self._request(method, path, what=what, query=query, body=body, content_type=content_type)
        try:
            document = json.loads(data)
        except ValueError as error:
            raise Unreachable(f"{what}: the answer is not JSON ({error})") from error
        if not isinstance(document, dict):
            raise Unreachable(f"{what}: the answer is not an object")
        return document

    async def _request(
        self,
        method: str,
        path: str,
        *,
        what: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        seconds: float | None = None,
    ) -> bytes:
        """One request and its whole answer. Raises what Cluster promises."""
        try:
            verb, url, headers, content, _ = await self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json, */*", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self._client.call_api(
                verb,
                url,
                header_params=headers,
                body=content,
                _request_timeout=aiohttp.ClientTimeout(total=seconds or REQUEST_SECONDS, sock_connect=CONNECT_SECONDS),
            )
            data: bytes = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{what}: {str(error) or type(error).__name__}") from error
        except ApiException as error:
            raise Rejected(f"{what}: {error.reason}") from error
        self._clock.hear(answer.headers.get("Date"))
        if 200 <= answer.status < 300:
            return data
        reason, message = _status_document(data)
        raise from_status(answer.status, reason, message, what)


def _at(namespace: str | None, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def _status_document(data: bytes) -> tuple[str, str]:
    try:
        document = json.loads(data)
        return str(document.get("reason") or ""), str(document.get("message") or "")
    except (ValueError, AttributeError):
        return "", data[:200].decode(errors="replace").strip()
