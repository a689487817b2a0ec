"""Execute a command in a container, over a WebSocket to the API server (subprotocol v4.channel.k8s.io).

Each message is one byte that names the channel, then data: 1 is the command's standard output, 2 its standard error, 3
a Status document that says how it ended. A connection that ends without that document tells nothing about the command.
Nothing ends a command from outside: whoever lets go of the connection leaves it running.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence

import aiohttp
from yarl import URL

from lowtide_operator.cluster.errors import ClusterError, Unreachable, from_status
from lowtide_operator.cluster.real import KubernetesCluster

PROTOCOL = "v4.channel.k8s.io"
STDOUT, STDERR, STATUS = 1, 2, 3
CONNECT_SECONDS = 10.0
PING_SECONDS = 30.0
"""How often a connection on which nothing is said is tried: a node that is gone is noticed in that time."""
CLOSE_SECONDS = 10.0
"""How long the last output is waited for after it was said how the command ended: each channel has its own pace."""

Sink = Callable[[bytes], None]


class ExecRefused(ClusterError):
    """The command was not started: the container has no such program, or its runtime refused."""

    reason = "ExecRefused"


class ExecCut(ClusterError):
    """The connection ended before it was said how the command ended: it may be done, or still be running."""

    reason = "ExecCut"


class ExecutingCluster(KubernetesCluster):
    """A cluster in whose pods commands can be executed."""

    async def execute(
        self, namespace: str, pod: str, container: str, command: Sequence[str], *, stdout: Sink, stderr: Sink
    ) -> int:
        """The exit code of `command`. What it writes is handed over as it comes. There is no deadline.

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
                    heartbeat=PING_SECONDS,
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


async def _follow(socket: aiohttp.ClientWebSocketResponse, what: str, stdout: Sink, stderr: Sink) -> int:
    """Hand on what comes until the connection ends; the exit code that was said meanwhile."""
    status: bytes | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as patience:
            async for message in socket:
                if message.type not in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
                    continue
                data = message.data.encode() if isinstance(message.data, str) else message.data
                if len(data) < 2:
                    continue
                if data[0] == STDOUT:
                    stdout(data[1:])
                elif data[0] == STDERR:
                    stderr(data[1:])
                elif data[0] == STATUS:
                    status = data[1:]
                    patience.reschedule(asyncio.get_running_loop().time() + CLOSE_SECONDS)
    if status is None:
        raise ExecCut(f"{what}: the connection ended before the command did (close code {socket.close_code}).")
    return _exit_code(status, what)


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
