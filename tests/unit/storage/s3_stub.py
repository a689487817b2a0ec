"""A small S3 of the tests' own, over real sockets, that misbehaves as they say: what no well-made server can be
made to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass
class Stub:
    """What the server holds, what it was asked, and how it answers next.

    `faults` are taken one per request: "ok"; "reset" (nothing done, connection closed); "lost" (done, connection
    closed); "cut" (half of the body); "stuck" (no answer until the test ends); "whole" (ignores a range); a number
    (that status, nothing done).
    """

    port: int = 0
    scheme: str = "http"
    objects: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    wants_checksum: bool = False
    bodies: list[dict[str, str]] = field(default_factory=list)
    """What the token service, which it also is, was asked."""
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def location(self) -> str:
        return f"s3:{self.scheme}://127.0.0.1:{self.port}/bucket/prefix"

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.requests]


CODES = {
    403: "AccessDenied",
    503: "SlowDown",
    500: "InternalError",
    404: "NoSuchKey",
    507: "QuotaExceeded",
    400: "BadDigest",
}


@contextlib.contextmanager
def s3_stub(certificate: Path | None = None, *, asks_for_ours: bool = False) -> Iterator[Stub]:
    """A stub that listens on loopback, with TLS where a certificate (with its key) is given; with `asks_for_ours` it
    serves only who has that same certificate.
    """
    stub = Stub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub))
    stub.port = server.server_address[1]
    if certificate is not None:
        stub.scheme = "https"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        if asks_for_ours:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
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
            path = unquote(urlsplit(self.path).path).removeprefix("/bucket").lstrip("/")
            stub.requests.append((self.command, path, dict(self.headers.items())))
            fault = stub.faults.pop(0) if stub.faults else "ok"
            if fault == "stuck":
                stub.ended.wait(30)
            if fault in ("reset", "stuck"):
                self.close_connection = True
                return
            if fault.isdigit():
                self._refuse(int(fault))
                return
            status, answer, headers = self._answer(path, body, fault)
            if fault == "lost":
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer[: len(answer) // 2] if fault == "cut" else answer)
                self.close_connection = fault == "cut"

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve

        def _answer(self, path: str, body: bytes, fault: str) -> tuple[int, bytes, dict[str, str]]:
            if self.command == "POST":
                asked = dict(parse_qsl(body.decode()))
                stub.bodies.append(asked)
                return 200, _role(asked["Action"]), {"Content-Type": "text/xml"}
            if self.command == "PUT" and stub.wants_checksum and not self.headers.get("x-amz-checksum-sha256"):
                said = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock"
                return 400, _error("InvalidRequest", said), {}
            if self.command == "PUT":
                stub.objects[path] = body
                return 200, b"", {"ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'}
            if self.command == "DELETE":
                stub.objects.pop(path, None)
                return 204, b"", {}
            if self.command == "GET" and "list-type=2" in urlsplit(self.path).query:
                return 200, _listing(stub.objects), {"Content-Type": "application/xml"}
            if path not in stub.objects:
                return 404, b"" if self.command == "HEAD" else _error("NoSuchKey"), {}
            data = stub.objects[path]
            if self.command == "HEAD":
                return 200, b"", {"Content-Length": str(len(data))}
            ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            if ranged is None or fault == "whole":
                return 200, data, {}
            return 206, data[int(ranged[1]) : int(ranged[2] or len(data)) + 1], {}

        def _refuse(self, status: int) -> None:
            answer = b"" if self.command == "HEAD" else _error(CODES[status])
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    return Handler


def _error(code: str, message: str = "it was refused to AKIAIOSFODNN7EXAMPLE") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


def _listing(objects: dict[str, bytes]) -> bytes:
    entries = "".join(
        f"<Contents><Key>{key}</Key><Size>{len(objects[key])}</Size></Contents>" for key in sorted(objects)
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()


def _role(action: str) -> bytes:
    keys = (
        "<AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        "<SessionToken>of the role</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>"
    )
    return (
        f"<{action}Response xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><{action}Result>"
        f"<Credentials>{keys}</Credentials></{action}Result></{action}Response>"
    ).encode()
