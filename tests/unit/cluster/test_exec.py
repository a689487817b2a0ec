"""Executing a command, as far as the connection goes: what an API server says, and what it leaves unsaid."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from lowtide_operator.cluster.errors import ClusterError, Forbidden, Unreachable
from lowtide_operator.cluster.exec import PROTOCOL, ExecCut, ExecRefused, ExecutingCluster

Talk = Callable[[web.WebSocketResponse], Awaitable[None]]

SUCCESS = {"status": "Success"}
THREE = {
    "status": "Failure",
    "reason": "NonZeroExitCode",
    "message": "command terminated with non-zero exit code",
    "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
}
NO_PROGRAM = {"status": "Failure", "reason": "InternalError", "message": "exec: no such file or directory"}


class Server:
    """An API server that only executes: `talk` is what it does with a connection, `refuses` an HTTP status."""

    def __init__(self) -> None:
        self.talk: Talk = _end(SUCCESS)
        self.refuses = 0
        self.asked: list[tuple[str, list[tuple[str, str]], str | None]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, list(request.query.items()), request.headers.get("Authorization")))
        if self.refuses:
            return web.json_response({"kind": "Status"}, status=self.refuses)
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        await self.talk(socket)
        return socket


def _end(status: Any) -> Talk:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01")
        await socket.send_bytes(b"\x01out")
        await socket.send_bytes(b"\x02err")
        await socket.send_bytes(b"\x03" + (status if isinstance(status, bytes) else json.dumps(status).encode()))
        await socket.send_bytes(b"\x01 and the rest")
        await socket.close()

    return talk


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    application = web.Application()
    application.router.add_get("/{tail:.*}", made.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.address = f"http://127.0.0.1:{runner.addresses[0][1]}"  # type: ignore[attr-defined]
    yield made
    await runner.cleanup()


async def execute(server: Server, *command: str) -> tuple[int, bytes, bytes]:
    said: dict[str, bytes] = {"out": b"", "err": b""}

    def sink(name: str) -> Callable[[bytes], None]:
        return lambda data: said.__setitem__(name, said[name] + data)

    configuration = Configuration(host=server.address, api_key={"BearerToken": "Bearer t0ken"})  # type: ignore[attr-defined]
    async with ExecutingCluster(configuration) as cluster:
        code = await cluster.execute("shop", "db-0", "db", command, stdout=sink("out"), stderr=sink("err"))
    return code, said["out"], said["err"]


async def test_the_command_arrives_word_by_word_and_all_that_it_says_comes_back(server: Server) -> None:
    words = ("sh", "-c", 'echo "a b" & c=d; cat +%20 ä')
    assert await execute(server, *words) == (0, b"out and the rest", b"err")
    ((path, query, token),) = server.asked
    assert path == "/api/v1/namespaces/shop/pods/db-0/exec"
    assert token == "Bearer t0ken"
    assert [value for name, value in query if name == "command"] == list(words)
    assert {"container": "db", "stdout": "true", "stderr": "true"}.items() <= dict(query).items()


async def test_an_exit_code_is_what_the_server_says(server: Server) -> None:
    server.talk = _end(THREE)
    assert (await execute(server, "false"))[0] == 3


@pytest.mark.parametrize(
    ("talk", "kind", "words"),
    [
        pytest.param(_end(NO_PROGRAM), ExecRefused, "no such file", id="a program that is not there"),
        pytest.param(_end(b"{"), ExecCut, "can't be read", id="half a status"),
        pytest.param(_end({**THREE, "details": {}}), ExecCut, "can't be read", id="an exit code that is not said"),
    ],
)
async def test_what_is_no_exit_code_is_an_error(server: Server, talk: Talk, kind: type[Exception], words: str) -> None:
    server.talk = talk
    with pytest.raises(kind, match=words):
        await execute(server, "sync")


@pytest.mark.parametrize("abrupt", [False, True], ids=["closed", "torn"])
async def test_a_connection_that_ends_without_a_status_tells_nothing_of_the_command(
    server: Server, abrupt: bool
) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01out")
        if abrupt:
            transport = socket._req.transport  # type: ignore[union-attr]
            transport.abort()  # type: ignore[union-attr]
        else:
            await socket.close()

    server.talk = talk
    with pytest.raises(ExecCut, match="before the command did"):
        await execute(server, "sync")


@pytest.mark.parametrize(("status", "kind"), [(403, Forbidden), (500, Unreachable), (400, ClusterError)])
async def test_a_server_that_does_not_begin_says_so_by_its_status(
    server: Server, status: int, kind: type[Exception]
) -> None:
    server.refuses = status
    with pytest.raises(kind) as caught:
        await execute(server, "sync")
    assert not isinstance(caught.value, ExecCut)


async def test_where_nobody_listens_nothing_was_begun(server: Server) -> None:
    server.address = "http://127.0.0.1:9"  # type: ignore[attr-defined]
    with pytest.raises(Unreachable):
        await execute(server, "sync")
