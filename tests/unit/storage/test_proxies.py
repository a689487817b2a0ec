"""Which proxy is asked, and that a REST storage behind one works: plain, and by a tunnel."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lowtide_engine.errors import BadInput, StorageError
from lowtide_engine.storage import File, FileKind, StorageOptions
from lowtide_engine.storage.proxies import proxy_for
from lowtide_engine.storage.rest import open_rest
from tests.unit.storage.certificate import self_signed
from tests.unit.storage.rest_stub import rest_stub

DATA = b"data" * 1000
PACK = File(FileKind.DATA, hashlib.sha256(DATA).hexdigest())
HOST = "backup.example.com"
PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("tls", "environment", "proxy"),
    [
        pytest.param(True, {}, "", id="no variable"),
        pytest.param(True, {"HTTPS_PROXY": PROXY}, PROXY, id="HTTPS_PROXY"),
        pytest.param(True, {"https_proxy": PROXY}, PROXY, id="in small letters"),
        pytest.param(True, {"HTTPS_PROXY": "proxy:3128"}, PROXY, id="without a scheme"),
        pytest.param(True, {"HTTP_PROXY": PROXY}, "", id="that of http is not for https"),
        pytest.param(False, {"HTTP_PROXY": PROXY}, PROXY, id="HTTP_PROXY"),
        pytest.param(False, {"HTTPS_PROXY": PROXY}, "", id="that of https is not for http"),
    ],
)
def test_the_proxy_of_the_environment(tls: bool, environment: dict[str, str], proxy: str) -> None:
    assert proxy_for(HOST, 443, environment, tls=tls) == proxy


@pytest.mark.parametrize(
    ("host", "excluded", "direct"),
    [
        (HOST, "*", True),
        (HOST, HOST, True),
        (HOST, "example.com", True),
        (HOST, ".example.com", True),
        (HOST, "*.example.com", True),
        (HOST, "a.b, Example.com", True),
        (HOST, "example.com:443", True),
        (HOST, "example.com:8000", False),
        (HOST, "ample.com", False),
        ("example.com", ".example.com", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "192.168.0.0/16", False),
        ("10.1.2.3", "10.1.2.3:443", True),
        ("fd00::1", "fd00::/8", True),
        ("localhost", "", True),
        ("127.0.0.1", "", True),
        ("::1", "", True),
        (HOST, "", False),
    ],
)
def test_who_is_asked_directly(host: str, excluded: str, direct: bool) -> None:
    found = proxy_for(host, 443, {"HTTPS_PROXY": PROXY, "NO_PROXY": excluded}, tls=True)
    assert (found == "") is direct


@pytest.mark.parametrize(
    "value", ["socks5://me:s3cret@proxy:1080", "http://me:s3cret@:3128", "http://me:s3cret@h:port"]
)
def test_what_is_no_proxy_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(BadInput, match="HTTPS_PROXY is no http or https URL") as caught:
        open_rest(f"rest:https://{HOST}/repo/", StorageOptions(environment={"HTTPS_PROXY": value}))
    assert "s3cret" not in str(caught.value)


@dataclass
class Tunnel:
    """A proxy that makes tunnels, all of them to one port of this machine, and what it was asked."""

    port: int
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def tunnel(to: int) -> Iterator[Tunnel]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_CONNECT(self) -> None:
            made.asked.append((self.path, self.headers.get("Proxy-Authorization", "")))
            with socket.create_connection(("127.0.0.1", to)) as server:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=pass_on, args=(server, self.connection))
                back.start()
                pass_on(self.connection, server)
                back.join()
            self.close_connection = True

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Tunnel(proxy.server_address[1])
    thread = threading.Thread(target=lambda: proxy.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield made
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def test_a_server_without_tls_is_asked_for_by_its_whole_address() -> None:
    with rest_stub() as stub:
        environment = {"HTTP_PROXY": f"http://me:p%40ss@127.0.0.1:{stub.port}", "RESTIC_REST_USERNAME": "you"}
        storage = open_rest(f"rest:http://{HOST}/repo/", StorageOptions(environment=environment))
        storage.save(PACK, DATA)
        assert storage.load(PACK, 4, 8) == DATA[4:12]
        assert [listed.name for listed in storage.list(FileKind.DATA)] == [PACK.name]
        storage.close()
    assert set(stub.targets) == {f"http://{HOST}/repo/data/{PACK.name}", f"http://{HOST}/repo/data/"}
    for _, _, told in stub.requests:
        headers = {name.title(): value for name, value in told.items()}
        assert headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()
        assert headers["Authorization"] == "Basic " + base64.b64encode(b"you:").decode()
        assert headers["Host"] == HOST


def test_a_server_with_tls_is_reached_by_a_tunnel_and_its_certificate_is_its_own(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, HOST)
    with rest_stub(certificate) as stub, tunnel(stub.port) as proxy:
        environment = {"HTTPS_PROXY": f"http://me:secret@127.0.0.1:{proxy.port}"}
        storage = open_rest(
            f"rest:https://{HOST}:8443/repo/", StorageOptions(environment=environment, ca_file=certificate)
        )
        storage.save(PACK, DATA)
        assert storage.load(PACK) == DATA
        storage.close()
        unknown = open_rest(f"rest:https://{HOST}:8443/repo/", StorageOptions(environment=environment))
        with pytest.raises(StorageError, match="certificate"):
            unknown.load(PACK)
        unknown.close()
    assert set(proxy.asked) == {(f"{HOST}:8443", "Basic " + base64.b64encode(b"me:secret").decode())}
    assert set(stub.targets) == {f"/repo/data/{PACK.name}"}
    assert not any("proxy" in name.lower() for _, _, headers in stub.requests for name in headers)


def test_a_proxy_that_is_not_there_is_told_without_its_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        environment = {"HTTPS_PROXY": f"http://me:s3cret@127.0.0.1:{taken.getsockname()[1]}"}
        storage = open_rest(f"rest:https://{HOST}/repo/", StorageOptions(environment=environment))
        with pytest.raises(StorageError, match="proxy") as caught:
            storage.load(PACK)
        storage.close()
    assert caught.value.retryable
    assert "s3cret" not in str(caught.value)
