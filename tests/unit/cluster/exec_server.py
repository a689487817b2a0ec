"""An API server that has one list of pods and executes commands in them, as far as the connection goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from lowtide_operator.cluster.exec import PROTOCOL

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
    """`talk` is what it does with a connection, `refuses` an HTTP status, `pods` what it lists."""

    def __init__(self) -> None:
        self.address = ""
        self.talk: Talk = end(SUCCESS)
        self.refuses = 0
        self.pods: list[Any] = []
        self.connected = asyncio.Event()
        self.asked: list[tuple[str, list[tuple[str, str]], str | None]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/pods"):
            return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self.pods})
        self.asked.append((request.path, list(request.query.items()), request.headers.get("Authorization")))
        if self.refuses:
            return web.json_response({"kind": "Status"}, status=self.refuses)
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        self.connected.set()
        await self.talk(socket)
        return socket


def end(status: Any) -> Talk:
    """A command that says a little and ends with `status`."""

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01")
        await socket.send_bytes(b"\x01out")
        await socket.send_bytes(b"\x02err")
        await say(socket, status)
        await socket.send_bytes(b"\x01 and the rest")
        await socket.close()

    return talk


async def say(socket: web.WebSocketResponse, status: Any) -> None:
    """Say how the command ended."""
    await socket.send_bytes(b"\x03" + (status if isinstance(status, bytes) else json.dumps(status).encode()))


def tear(socket: web.WebSocketResponse) -> None:
    """End the connection without a word."""
    socket._req.transport.abort()  # type: ignore[union-attr]


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """A Server for the time of the block."""
    made = Server()
    application = web.Application()
    application.router.add_get("/{tail:.*}", made.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield made
    finally:
        await runner.cleanup()
