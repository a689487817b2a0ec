"""Files behind restic's REST server protocol, versions 1 and 2, over urllib3.

The protocol has no folders below data/, answers a save only after the file is durable, and lets nobody overwrite a
file. A server that is append-only also lets nobody delete anything but locks, which is told as such.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

from lowtide_engine.errors import EngineError, FileMissing, FileShort, StorageError, StorageFull, StorageRefused
from lowtide_engine.storage.base import CONFIG, File, FileKind, Listed, check_range, is_id
from lowtide_engine.storage.pacing import BufferReader, read_paced
from lowtide_engine.storage.proxies import credentials_of, proxy_for
from lowtide_engine.storage.rest_location import RestLocation

if TYPE_CHECKING:
    from typing_extensions import Buffer
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

    from lowtide_engine.storage.options import StorageOptions

VERSION_2 = "application/vnd.x.restic.rest.v2"
CONNECTIONS = 5
_PASSING = (408, 425, 429)
_FULL = (413, 507)


class RestStorage:
    """A `Storage` at one URL. Connections are kept and shared by all threads."""

    def __init__(self, address: RestLocation, options: StorageOptions) -> None:
        options.of("rest", ())
        self._address = address
        self._options = options
        self._guard = threading.Lock()
        self._made: HTTPConnectionPool | None = None
        self._proxy = proxy_for(address.host, address.port, options.environment, tls=address.tls)

    @property
    def location(self) -> str:
        return str(self._address)

    @property
    def connections(self) -> int:
        return self._options.connections or CONNECTIONS

    def create(self) -> None:
        with self._answer("create a repository", "POST", "?create=true", saving=True):
            pass

    def save(self, file: File, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        try:
            self._post(file, view)
        except StorageRefused:
            # What exists is never overwritten: it is the same file, or a config that is written anew.
            if not self._exists(file):
                raise
            if file != CONFIG:
                if self.stat(file) != view.nbytes:
                    raise
            elif self.load(file) != bytes(view):
                self.delete(file)
                self._post(file, view)

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        if length == 0 or (length is None and offset):
            size = self.stat(file)
            if offset > size:
                raise self._short(file, size, offset, length)
            length = size - offset if length is None else 0
            if length == 0:
                return b""
        headers = {} if length is None else {"Range": f"bytes={offset}-{offset + length - 1}"}
        with self._answer(f"read {file}", "GET", _path(file), file=file, headers=headers) as answer:
            if headers and answer.status == 416:
                raise self._short(file, self.stat(file), offset, length)
            if headers and answer.status != 206:
                raise StorageError(f"{self._address.host} ignores ranges, which reading {file} needs")
            expected = int(answer.headers.get("Content-Length", -1))
            if expected < 0:
                # rclone's server, for a range that begins beyond the end.
                expected = max(0, self.stat(file) - offset)
                expected = expected if length is None else min(expected, length)
            if length is not None and expected < length:
                raise self._short(file, offset + expected, offset, length)
            data = read_paced(answer.read, expected, self._options.downloads)
        if len(data) != expected:
            raise FileShort(f"{file} in {self.location} was cut on its way: {len(data)} of {expected} bytes came")
        return data

    def stat(self, file: File) -> int:
        with self._answer(f"stat {file}", "HEAD", _path(file), file=file) as answer:
            try:
                return int(answer.headers["Content-Length"])
            except (KeyError, ValueError):
                raise StorageError(f"{self._address.host} doesn't say how long {file} is") from None

    def list(self, kind: FileKind) -> Iterator[Listed]:
        if kind is FileKind.CONFIG:
            return iter(())
        try:
            with self._answer(f"list {kind}", "GET", f"{kind}/", headers={"Accept": VERSION_2}) as answer:
                if answer.status == 404:
                    return iter(())
                version_2 = answer.headers.get("Content-Type", "").partition(";")[0].strip() == VERSION_2
                body = answer.read()
            entries = json.loads(body) or []
            if version_2:
                found = {entry["name"]: Listed(entry["name"], int(entry["size"])) for entry in entries}
                return iter([listed for name, listed in found.items() if is_id(name)])
            names = {str(name) for name in entries if is_id(str(name))}
        except (ValueError, TypeError, KeyError) as error:
            raise StorageError(
                f"could not list {kind} in {self.location}: the answer is no listing", hint="is this a REST server?"
            ) from error
        return self._with_sizes(kind, names)

    def delete(self, file: File) -> None:
        try:
            with self._answer(f"delete {file}", "DELETE", _path(file), file=file, saving=True):
                pass
        except StorageRefused as error:
            if file.kind is FileKind.LOCK or not self._exists(file):
                raise
            raise StorageRefused(
                f"{error.message}: the server lets nothing be deleted",
                hint="it is append-only: forget and prune where the server runs, or by an account that may delete",
            ) from error

    def close(self) -> None:
        with self._guard:
            if self._made is not None:
                self._made.close()
                self._made = None

    def _post(self, file: File, view: memoryview) -> None:
        with self._answer(f"save {file}", "POST", _path(file), saving=True, body=view):
            pass

    def _exists(self, file: File) -> bool:
        try:
            self.stat(file)
        except StorageError:
            return False
        return True

    def _with_sizes(self, kind: FileKind, names: set[str]) -> Iterator[Listed]:
        """Version 1 lists only names; a file that goes meanwhile is left out."""

        def sized(name: str) -> Listed | None:
            with contextlib.suppress(FileMissing):
                return Listed(name, self.stat(File(kind, name)))
            return None

        with ThreadPoolExecutor(self.connections) as pool:
            found = [listed for listed in pool.map(sized, names) if listed is not None]
        return iter(found)

    @property
    def _pool(self) -> HTTPConnectionPool:
        with self._guard:
            if self._made is None:
                self._made = self._connect()
            return self._made

    def _connect(self) -> HTTPConnectionPool:
        import urllib3

        options, address = self._options, self._address
        shared: Any = {
            "maxsize": self.connections,
            "retries": False,
            "timeout": urllib3.Timeout(connect=options.connect_timeout, read=options.stuck_timeout),
        }
        if address.tls:
            shared["cert_reqs"] = "CERT_NONE" if options.insecure_tls else "CERT_REQUIRED"
            shared["ca_certs"] = str(options.ca_file) if options.ca_file else None
            if options.client_certificate is not None:
                shared["cert_file"], shared["key_file"] = map(str, options.client_certificate)
        manager: urllib3.PoolManager
        if self._proxy:
            known = credentials_of(self._proxy)
            asking = {"proxy-authorization": _basic(known)} if known else {}
            manager = urllib3.ProxyManager(self._proxy, proxy_headers=asking, **shared)
        else:
            manager = urllib3.PoolManager(**shared)
        pool = manager.connection_from_host(address.host, address.port, "https" if address.tls else "http")
        pool.headers = {"user-agent": "lowtide"}
        if address.user:
            pool.headers["authorization"] = _basic(f"{address.user}:{address.password}")
        return pool

    def _target(self, path: str) -> str:
        """What a request line asks for: a proxy without TLS behind it is told the server too."""
        plain = self._proxy and not self._address.tls
        return f"{f'http://{self._address.authority}' if plain else ''}{self._address.path}{path}"

    @contextlib.contextmanager
    def _answer(
        self,
        doing: str,
        method: str,
        path: str,
        *,
        file: File | None = None,
        headers: dict[str, str] | None = None,
        body: memoryview | None = None,
        saving: bool = False,
    ) -> Iterator[BaseHTTPResponse]:
        """The server's answer, its body not read yet. Raises for every status that is none of what was asked for."""
        import urllib3

        place = f"could not {doing} in {self.location}"
        sent = {**self._pool.headers, **(headers or {})}
        stream: Any = None
        if body is not None:
            stream = BufferReader(body, self._options.uploads)
            sent |= {"Content-Length": str(body.nbytes), "Content-Type": "application/octet-stream"}
        try:
            answer = self._pool.urlopen(
                method,
                self._target(path),
                body=stream,
                headers=sent,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
            )
            try:
                yield self._judged(answer, place, file, saving)
                if method != "GET":
                    answer.drain_conn()
            finally:
                if method == "GET" and answer.length_remaining:
                    # What nobody read must not be taken for the next answer.
                    answer.close()
                answer.release_conn()
        except EngineError:
            raise
        except urllib3.exceptions.SSLError as error:
            raise StorageError(
                f"{place}: {error}",
                hint="for a CA of your own set RESTIC_CACERT or give --cacert",
                retryable=True,
            ) from error
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            # No connection, hence nothing was done.
            raise StorageError(f"{place}: {_said(error)}", retryable=True) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StorageError(f"{place}: {_said(error)}", retryable=True, ambiguous=saving) from error

    def _judged(self, answer: BaseHTTPResponse, place: str, file: File | None, saving: bool) -> BaseHTTPResponse:
        status = answer.status
        if status in (200, 201, 204, 206, 416) or (status == 404 and file is None and not saving):
            return answer
        answer.drain_conn()
        why = f"{place}: {answer.reason or 'no'} (status {status})"
        if status == 404 and file is not None:
            raise FileMissing(f"{file} is not in {self.location}")
        if status in (401, 403):
            hint = "set RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD" if status == 401 else None
            raise StorageRefused(why, ambiguous=saving, hint=hint)
        if status in _FULL:
            raise StorageFull(why)
        if 300 <= status < 400:
            raise StorageError(f"{place}: the server is elsewhere (status {status})", hint="give its own location")
        passing = status >= 500 or status in _PASSING
        raise StorageError(why, retryable=passing, ambiguous=saving)

    def _short(self, file: File, size: int, offset: int, length: int | None) -> FileShort:
        asked = "the rest" if length is None else f"{length} bytes"
        return FileShort(
            f"{file} in {self.location} has {size} bytes, asked for {asked} from {offset}", retryable=False
        )


def open_rest(location: str, options: StorageOptions) -> RestStorage:
    """A REST storage from restic's form of a location; opens no connection."""
    return RestStorage(RestLocation.parse(location, options.environment), options)


def _basic(credentials: str) -> str:
    """In UTF-8, as Go sends them: urllib3 knows Latin-1 only, and no euro sign."""
    return f"Basic {base64.b64encode(credentials.encode()).decode()}"


def _path(file: File) -> str:
    """The protocol's path: it is the server's business how it spreads data over folders."""
    return "config" if file == CONFIG else f"{file.kind}/{file.name}"


def _said(error: Exception) -> str:
    """What urllib3 or the network says, without the objects that urllib3 puts in front of it."""
    return str(cast("object", error)).rpartition(">: ")[2] or type(error).__name__
