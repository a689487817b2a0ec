"""Executing a command, as far as the connection goes: what an API server says, and what it leaves unsaid."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from lowtide_operator.cluster import exec as executing
from lowtide_operator.cluster.errors import ClusterError, Forbidden, Unreachable
from lowtide_operator.cluster.exec import Ended, ExecCut, ExecRefused, ExecutingCluster, SlowSink
from tests.unit.cluster.exec_server import NO_PROGRAM, SUCCESS, THREE, Server, Talk, end, say, serving, tear


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as made:
        yield made


async def execute(server: Server, *command: str, stdout: SlowSink | None = None) -> tuple[Ended, bytes, bytes]:
    said: dict[str, bytes] = {"out": b"", "err": b""}

    async def keep(data: bytes) -> None:
        said["out"] += data

    def stderr(data: bytes) -> None:
        said["err"] += data

    configuration = Configuration(host=server.address, api_key={"BearerToken": "Bearer t0ken"})
    async with ExecutingCluster(configuration) as cluster:
        ended = await cluster.execute("shop", "db-0", "db", command, stdout=stdout or keep, stderr=stderr)
    return ended, said["out"], said["err"]


async def test_the_command_arrives_word_by_word_and_all_that_it_says_comes_back(server: Server) -> None:
    words = ("sh", "-c", 'echo "a b" & c=d; cat +%20 ä')
    assert await execute(server, *words) == (Ended(0, whole=True), b"out and the rest", b"err")
    ((path, query, token),) = server.asked
    assert path == "/api/v1/namespaces/shop/pods/db-0/exec"
    assert token == "Bearer t0ken"
    assert [value for name, value in query if name == "command"] == list(words)
    assert {"container": "db", "stdout": "true", "stderr": "true"}.items() <= dict(query).items()


async def test_an_exit_code_is_what_the_server_says(server: Server) -> None:
    server.talk = end(THREE)
    assert (await execute(server, "false"))[0] == Ended(3, whole=True)


@pytest.mark.parametrize(
    ("talk", "kind", "words"),
    [
        pytest.param(end(NO_PROGRAM), ExecRefused, "no such file", id="a program that is not there"),
        pytest.param(end(b"{"), ExecCut, "can't be read", id="half a status"),
        pytest.param(end({**THREE, "details": {}}), ExecCut, "can't be read", id="an exit code that is not said"),
    ],
)
async def test_what_is_no_exit_code_is_an_error(server: Server, talk: Talk, kind: type[Exception], words: str) -> None:
    server.talk = talk
    with pytest.raises(kind, match=words):
        await execute(server, "sync")


@pytest.mark.parametrize("silent", [False, True], ids=["torn", "silent"])
async def test_output_is_whole_only_where_the_server_closes_after_the_status(
    server: Server, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executing, "CLOSE_SECONDS", 0.2)
    over = asyncio.Event()

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01out")
        await say(socket, SUCCESS)
        if silent:
            await over.wait()
        tear(socket)

    server.talk = talk
    asyncio.get_running_loop().call_later(2, over.set)
    assert await execute(server, "pg_dump") == (Ended(0, whole=False), b"out", b"")


async def test_a_server_that_answers_nothing_is_noticed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executing, "PING_SECONDS", 0.2)
    over = asyncio.Event()

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01out")
        await over.wait()

    server.talk = talk
    asyncio.get_running_loop().call_later(3, over.set)
    with pytest.raises(ExecCut, match="before the command did"):
        await execute(server, "pg_dump")


async def test_a_command_that_says_nothing_for_long_is_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server does meanwhile is answer pings, which it does while it listens."""
    monkeypatch.setattr(executing, "PING_SECONDS", 1.0)

    async def talk(socket: web.WebSocketResponse) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3.5):
                await socket.receive()
        await end(SUCCESS)(socket)

    server.talk = talk
    assert (await execute(server, "sync"))[0] == Ended(0, whole=True)


async def test_whoever_takes_the_output_sets_the_pace_and_no_ping_counts_meanwhile(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server gets rid of no more than what buffers on the way take, and nothing is lost of the rest."""
    monkeypatch.setattr(executing, "PING_SECONDS", 0.5)
    pieces, sent = 600, 0
    blocked: list[int] = []
    taken = 0

    async def talk(socket: web.WebSocketResponse) -> None:
        nonlocal sent
        for _ in range(pieces):
            await socket.send_bytes(b"\x01" + bytes(1 << 16))
            sent += 1
        await end(SUCCESS)(socket)

    async def take(data: bytes) -> None:
        nonlocal taken
        if not taken:
            await asyncio.sleep(2)
            blocked.append(sent)
        taken += len(data)

    server.talk = talk
    ended, _, _ = await execute(server, "pg_dump", stdout=take)
    assert (ended, taken) == (Ended(0, whole=True), (pieces << 16) + len(b"out and the rest"))
    assert blocked[0] < pieces // 2, "it was all held in memory"


@pytest.mark.parametrize("abrupt", [False, True], ids=["closed", "torn"])
async def test_a_connection_that_ends_without_a_status_tells_nothing_of_the_command(
    server: Server, abrupt: bool
) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01out")
        if abrupt:
            tear(socket)
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
    server.address = "http://127.0.0.1:9"
    with pytest.raises(Unreachable):
        await execute(server, "sync")
