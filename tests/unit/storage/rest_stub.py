"""A small REST server of the tests' own, over real sockets, that speaks either version and misbehaves as they say."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

VERSION_2 = "application/vnd.x.restic.rest.v2"


@dataclass
class Stub:
    """What the server holds, by path, what it was asked, and how it answers next.

    `faults` are taken one per request: "ok"; "reset" (nothing done, connection closed); "lost" (done, connection
    closed); "cut" (half of the body); "stuck" (no answer until the test ends); "whole" (ignores a range);
    "unsaid" (doesn't say how long the answer is, and answers a range beyond the end with nothing); a number (that
    status, nothing done).
    """

    port: int = 0
    version: int = 2
    append_only: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def location(self) -> str:
        return f"rest:http://127.0.0.1:{self.port}/repo/"

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.requests]


@contextlib.contextmanager
def rest_stub(certificate: Path | None = None) -> Iterator[Stub]:
    """A stub that listens on loopback, with TLS where a certificate (with its key) is given. As a proxy it answers for
    every server.
    """
    stub = Stub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    stub.port = server.server_address[1]
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield stub
    finally:
        stub.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            stub.targets.append(self.path)
            path = urlsplit(self.path).path.removeprefix("/repo/")
            stub.requests.append((self.command, path, dict(self.headers.items())))
            fault = stub.faults.pop(0) if stub.faults else "ok"
            if fault == "stuck":
                stub.ended.wait(30)
            if fault in ("reset", "stuck"):
                self.close_connection = True
                return
            status, answer, headers = (int(fault), b"said", {}) if fault.isdigit() else self._do(path, body, fault)
            if fault == "lost":
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if fault == "unsaid":
                self.close_connection = True
            else:
                self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer[: len(answer) // 2] if fault == "cut" else answer)
                self.close_connection = fault == "cut"

        do_GET = do_POST = do_HEAD = do_DELETE = _serve

        def _do(self, path: str, body: bytes, fault: str) -> tuple[int, bytes, dict[str, str]]:
            if self.command == "POST":
                if path in stub.files:
                    return 403, b"Forbidden", {}
                if path != "?create=true":
                    stub.files[path] = body
                return 200, b"", {}
            if path.endswith("/"):
                return self._listing(path)
            if path not in stub.files:
                return 404, b"Not Found", {}
            if self.command == "DELETE":
                if stub.append_only and not path.startswith("locks/"):
                    return 403, b"Forbidden", {}
                del stub.files[path]
                return 200, b"", {}
            data = stub.files[path]
            ranged = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
            if ranged is None or fault == "whole":
                return 200, data, {}
            if int(ranged[1]) >= len(data) and fault != "unsaid":
                return 416, b"", {}
            return 206, data[int(ranged[1]) : int(ranged[2]) + 1], {}

        def _listing(self, path: str) -> tuple[int, bytes, dict[str, str]]:
            found = {name.removeprefix(path): len(data) for name, data in stub.files.items() if name.startswith(path)}
            if stub.version == 1:
                return 200, json.dumps([*found]).encode(), {"Content-Type": "application/vnd.x.restic.rest.v1"}
            entries = [{"name": name, "size": size} for name, size in found.items()]
            return 200, json.dumps(entries or None).encode(), {"Content-Type": VERSION_2}

    return Handler
