"""A small client for the API server, for tests: synchronous, one connection per thread, JSON in and out."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from lowtide_operator.cluster.kinds import Kind
from tests.cluster.controlplane import ControlPlane

Object = dict[str, Any]

IDLE_SECONDS = 30.0
"""How long a connection may lie unused: the API server closes it after 90 s."""


class ApiError(Exception):
    """The API server refused: `status` is the HTTP code."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}")
        self.status = status


class Api:
    """All rights on the API server of `plane`. Answers None where an object is not there."""

    def __init__(self, plane: ControlPlane) -> None:
        self._token = plane.tokens["admin"]
        self._address = urlsplit(plane.url)
        self._context = ssl.create_default_context(cafile=str(plane.certificates.authority))
        self._local = threading.local()
        self._connections: list[http.client.HTTPSConnection] = []

    def close(self) -> None:
        """Close every thread's connection."""
        for connection in self._connections:
            connection.close()

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        try:
            return self.call("GET", kind.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: Kind, namespace: str | None, labels: str = "") -> list[Object]:
        query = f"?labelSelector={labels}" if labels else ""
        items: list[Object] = self.call("GET", kind.path(namespace) + query)["items"] or []
        return items

    def create(self, kind: Kind, body: Object) -> Object:
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        return self.call("POST", kind.path(body["metadata"].get("namespace")), whole)

    def patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Object, subresource: str = ""
    ) -> Object | None:
        try:
            return self.call("PATCH", kind.path(namespace, name, subresource), patch, "application/merge-patch+json")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def delete(self, kind: Kind, namespace: str | None, name: str, *, grace: int | None = None) -> None:
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            self.call("DELETE", kind.path(namespace, name), options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    def call(self, method: str, path: str, body: Object | None = None, content: str = "application/json") -> Object:
        """One request; a read is made again on a new connection, and anything once the API server has said wait.

        Raises ApiError, ConnectionError (the API server is not there).
        """
        for attempt in range(20):
            try:
                return self._once(method, path, body, content)
            except ConnectionError:
                if method != "GET" or attempt:
                    raise
            except ApiError as error:
                if error.status != 429:
                    raise
                time.sleep(0.5)
        raise ConnectionError(f"{method} {path}: told to wait again and again")

    def _once(self, method: str, path: str, body: Object | None, content: str) -> Object:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content, "Accept": "application/json"}
        connection = getattr(self._local, "connection", None)
        if connection is not None and time.monotonic() - self._local.used > IDLE_SECONDS:
            connection.close()
            connection = None
        if connection is None:
            address = self._address
            connection = http.client.HTTPSConnection(
                str(address.hostname), address.port, timeout=20, context=self._context
            )
            self._local.connection = connection
            self._connections.append(connection)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
            self._local.used = time.monotonic()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._local.connection = None
            raise ConnectionError(f"{method} {path}: {error or type(error).__name__}") from error
        if answer.status >= 300:
            raise ApiError(answer.status, data.decode(errors="replace")[:1000])
        found: Object = json.loads(data)
        return found
