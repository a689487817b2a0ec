"""Execute a command in a container, over a WebSocket to the API server (subprotocol v4.channel.k8s.io).

Each message is one byte that names the channel, then data: 1 is the command's standard output, 2 its standard error, 3
a Status document that says how it ended. A connection that ends without that document tells nothing about the command,
and only one that the server then closes in order has surely delivered all of its output. Nothing ends a command from
outside: whoever lets go of the connection leaves it running.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

from lowtide_operator.cluster.errors import ClusterError, Unreachable, from_status
from lowtide_operator.cluster.real import KubernetesCluster

PROTOCOL = "v4.channel.k8s.io"
STDOUT, STDERR, STATUS = 1, 2, 3
CONNECT_SECONDS = 10.0
PING_SECONDS = 30.0
"""After how long a connection on which nothing is said is tried, and how long its answer may take. Only time in which
this side listens counts: one that takes its time with the output can't hear the answer behind it."""
CLOSE_SECONDS = 10.0
"""How long more is waited for after it was said how the command ended: each channel has its own pace."""

Sink = Callable[[bytes], None]
SlowSink = Callable[[bytes], Awaitable[None]]
"""What comes next is not read before it is done."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code, and whether all of its output came, by the server's own account."""

    code: int
    whole: bool


class ExecRefused(ClusterError):
    """The command was not started: the container has no such program, or its runtime refused."""

    reason = "ExecRefused"


class ExecCut(ClusterError):
    """The connection ended before it was said how the command ended: it may be done, or still be running."""

    reason = "ExecCut"


class ExecutingCluster(KubernetesCluster):
    """A cluster in whose pods commands can be executed."""

    async def execute(
        self, namespace: str, pod: str, container: str, command: Sequence[str], *, stdout: SlowSink, stderr: Sink
    ) -> Ended:
        """How `command` ended. What it writes is handed over as it comes, in constant memory: `stdout` sets the pace.
        There is no deadline. What the sinks raise is raised.

        Raises Unreachable, Forbidden and others as Cluster does, where the command was certainly not started;
        ExecRefused; ExecCut.
        """
        what = f"executing a command in pod {namespace}/{pod}"
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
        _, url, headers, _, _ = await self._client.param_serialize(
            "GET", path, header_params={}, auth_settings=["BearerToken"]
        )
        query = [("container", container), ("stdout", "true"), ("stderr", "true")]
        address = URL(url).with_query(query + [("command", word) for word in command])
        connector = aiohttp.TCPConnector(ssl=self._client.rest_client.ssl_context)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        begun = False
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.ws_connect(
                    address,
                    headers=headers,
                    protocols=(PROTOCOL,),
                    autoping=False,
                    proxy=self._client.configuration.proxy,
                ) as socket,
            ):
                begun = True
                return await _follow(socket, what, stdout, stderr)
        except aiohttp.WSServerHandshakeError as error:
            raise from_status(error.status, "", error.message, what) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise (ExecCut if begun else Unreachable)(f"{what}: {str(error) or type(error).__name__}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ExecCut(f"{what}: {str(error) or type(error).__name__}") from error


async def _follow(socket: aiohttp.ClientWebSocketResponse, what: str, stdout: SlowSink, stderr: Sink) -> Ended:
    """Hand on what comes until the connection ends; how the command ended, by what was said meanwhile."""
    status: bytes | None = None
    asked = whole = False
    while True:
        try:
            message = await socket.receive(PING_SECONDS if status is None else CLOSE_SECONDS)
        except TimeoutError:
            if asked or status is not None:
                break
            asked = True
            await socket.ping()
            continue
        asked = False
        if message.type is aiohttp.WSMsgType.CLOSE:
            whole = True
            break
        if message.type in (aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
            break
        if message.type is aiohttp.WSMsgType.PING:
            await socket.pong(message.data)
        if message.type not in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
            continue
        data = message.data.encode() if isinstance(message.data, str) else message.data
        if len(data) < 2:
            continue
        if data[0] == STDOUT:
            await stdout(data[1:])
        elif data[0] == STDERR:
            stderr(data[1:])
        elif data[0] == STATUS:
            status = data[1:]
    if status is None:
        raise ExecCut(f"{what}: the connection ended before the command did (close code {socket.close_code}).")
    return Ended(_exit_code(status, what), whole)


def _exit_code(document: bytes, what: str) -> int:
    """The exit code that a Status document says. Raises ExecRefused where it says another failure."""
    try:
        status = json.loads(document)
        if status.get("status") == "Success":
            return 0
        if status.get("reason") == "NonZeroExitCode":
            return next(int(c["message"]) for c in status["details"]["causes"] if c["reason"] == "ExitCode")
        said = str(status.get("message") or status.get("reason") or "no reason given")
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise ExecCut(f"{what}: it can't be read how the command ended ({error}).") from error
    raise ExecRefused(f"{what}: {said}")
