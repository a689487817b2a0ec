"""The program that brings a stream from a pod, with the engine that stores it: both as processes, as in a Job's pod.

The API server is one that only executes (tests/unit/cluster/exec_server.py); tests/e2e/test_streams.py has a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from lowtide_engine import stream as engine
from lowtide_engine.contract import Result, decode
from lowtide_operator import stream as program
from tests.unit.cluster.exec_server import NO_PROGRAM, SUCCESS, THREE, Server, Talk, end, say, serving, tear
from tests.unit.test_hook_program import pod

PASSWORD = "secret"
PIECE = bytes(range(256)) * 128


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as made:
        made.pods = [pod()]
        yield made


@dataclass
class Place:
    """A repository, the folder that both share, and how their processes are started."""

    folder: Path
    environment: dict[str, str]

    @property
    def handover(self) -> Path:
        return self.folder / "handover"

    async def lowtide(self, *arguments: str) -> asyncio.subprocess.Process:
        """The engine; stdout and stderr are piped."""
        return await self._start("lowtide_engine.cli", *arguments)

    async def mover(self) -> asyncio.subprocess.Process:
        return await self.lowtide(
            "backup", "--stdin-handover", str(self.handover), "--stdin-filename", "/streams/shop.sql", "--json"
        )

    async def writer(self, *more: str, patience: float = 5) -> asyncio.subprocess.Process:
        return await self._start(
            "lowtide_operator.stream",
            *(f"--handover={self.handover}", "--namespace=shop", "--selector=app=db", f"--patience={patience}"),
            *more,
            *("--", "pg_dump", "-U", "$(postgres)", "shop"),
        )

    def snapshots(self) -> list[str]:
        """The ids of the repository's snapshots."""
        return [path.name for path in (self.folder / "repository" / "snapshots").rglob("*") if path.is_file()]

    def result(self) -> Result:
        """What the last engine said at its end."""
        return decode((self.folder / "result").read_bytes())

    async def _start(self, module: str, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository without snapshots."""
    path = tmp_path_factory.mktemp("empty") / "repository"
    environment = {**os.environ, "RESTIC_REPOSITORY": str(path), "RESTIC_PASSWORD": PASSWORD}
    subprocess.run([sys.executable, "-m", "lowtide_engine.cli", "init"], env=environment, check=True)
    return path


@pytest.fixture
def place(server: Server, empty: Path, tmp_path: Path) -> Place:
    """The mover would see neither the kubeconfig nor the writer the password; here that does not matter."""
    named = {"clusters": [{"name": "c", "cluster": {"server": server.address}}], "users": [{"name": "u", "user": {}}]}
    context = {"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **named, **context}))
    (tmp_path / "handover").mkdir()
    shutil.copytree(empty, tmp_path / "repository")
    variables = {
        "RESTIC_REPOSITORY": str(tmp_path / "repository"),
        "RESTIC_PASSWORD": PASSWORD,
        "LOWTIDE_RESULT_FILE": str(tmp_path / "result"),
    }
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    return Place(tmp_path, {**kept, **variables, "KUBECONFIG": str(tmp_path / "kubeconfig")})


async def run(place: Place, *more: str, patience: float = 5) -> tuple[int, str, int]:
    """The writer's exit code and standard error, and the mover's exit code."""
    mover, writer = await place.mover(), await place.writer(*more, patience=patience)
    async with asyncio.timeout(90):
        (_, said), _ = await asyncio.gather(writer.communicate(), mover.communicate())
    assert writer.returncode is not None
    assert mover.returncode is not None
    return writer.returncode, said.decode(), mover.returncode


def writes(pieces: int, *last: Any, close: bool = True) -> Talk:
    """A command that writes so many pieces, and then ends as `last` says; without it the connection is torn."""

    async def talk(socket: web.WebSocketResponse) -> None:
        for _ in range(pieces):
            await socket.send_bytes(b"\x01" + PIECE)
        await socket.send_bytes(b"\x02pg_dump: error: connection to server failed\n")
        for status in last:
            await say(socket, status)
        await (socket.close() if close else asyncio.sleep(0))
        if not close:
            tear(socket)

    return talk


def test_both_sides_mean_the_same_files() -> None:
    assert (program.PIPE_FILE, program.STATUS_FILE) == (engine.PIPE_FILE, engine.STATUS_FILE)


async def test_what_the_command_writes_is_one_file_of_a_snapshot(server: Server, place: Place) -> None:
    server.talk = writes(100, SUCCESS)
    writer, said, mover = await run(place)
    assert (writer, mover, said) == (0, 0, "")
    assert place.result().snapshot_ids == place.snapshots()
    dump = await place.lowtide("dump", "latest", "/streams/shop.sql")
    out, _ = await dump.communicate()
    assert out == PIECE * 100
    ((_, query, _),) = server.asked
    assert [value for name, value in query if name == "command"] == ["pg_dump", "-U", "$(postgres)", "shop"]


@pytest.mark.parametrize(
    ("talk", "code", "words"),
    [
        pytest.param(writes(9, THREE), 3, "exit code 3", id="it fails after it wrote everything"),
        pytest.param(writes(0, THREE), 3, "connection to server failed", id="it fails before it wrote anything"),
        pytest.param(writes(9, NO_PROGRAM), 125, "no such file", id="it can't be started"),
        pytest.param(writes(9, close=False), 125, "before the command did", id="the connection is cut"),
        pytest.param(writes(9), 125, "before the command did", id="the connection is closed without a status"),
        pytest.param(writes(9, b"{"), 125, "can't be read", id="half a status"),
        pytest.param(writes(9, SUCCESS, close=False), 125, "may be missing", id="cut after the status"),
    ],
)
async def test_a_stream_that_is_not_surely_whole_makes_no_snapshot_and_it_is_said_why(
    server: Server, place: Place, talk: Talk, code: int, words: str
) -> None:
    server.talk = talk
    writer, said, mover = await run(place)
    assert (writer, mover) == (code, 1)
    assert words in said
    assert place.result().reason == "StreamFailed"
    assert f"code {code}" in place.result().message
    assert place.snapshots() == []
    assert len(server.asked) == 1, "it was executed once"


async def test_a_command_that_writes_nothing_makes_no_snapshot(server: Server, place: Place) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await say(socket, SUCCESS)
        await socket.close()

    server.talk = talk
    writer, _, mover = await run(place)
    assert (writer, mover) == (0, 1)
    assert place.result().reason == "StreamEmpty"
    assert place.snapshots() == []


@pytest.mark.parametrize(
    ("pods", "more", "words"),
    [
        pytest.param([], (), "no pod in namespace shop has the labels app=db", id="no pod"),
        pytest.param([pod("db-0"), pod("db-1")], (), "db-0, db-1", id="two pods"),
        pytest.param([pod(ready=False)], (), "is not ready", id="not ready"),
        pytest.param([pod()], ("--container=web",), "no container web", id="no such container"),
    ],
)
async def test_a_pod_that_can_not_be_told_fails_after_a_while_and_nothing_is_executed(
    server: Server, place: Place, pods: list[Any], more: tuple[str, ...], words: str
) -> None:
    server.pods = pods
    writer, said, mover = await run(place, *more, patience=1)
    assert (writer, mover, server.asked) == (125, 1, [])
    assert words in said
    assert "not started" in said
    assert place.snapshots() == []


async def test_no_right_is_told_by_the_name_of_the_charts_value(server: Server, place: Place) -> None:
    server.refuses = 403
    writer, said, mover = await run(place)
    assert (writer, mover) == (126, 1), "as a shell says of what it may not execute"
    assert "exec.namespaces" in said


async def test_a_mover_that_ends_ends_the_writer(server: Server, place: Place) -> None:
    server.talk = writes(20_000, SUCCESS)
    mover, writer = await place.mover(), await place.writer()
    async with asyncio.timeout(60):
        await server.connected.wait()
        mover.send_signal(signal.SIGKILL)
        _, said = await writer.communicate()
        await mover.communicate()
    assert writer.returncode == 125
    assert b"reads no more" in said


@pytest.mark.parametrize("waits", ["for the mover", "for the command"])
async def test_a_writer_that_is_told_to_stop_does_so_and_claims_nothing(
    server: Server, place: Place, waits: str
) -> None:
    over = asyncio.Event()

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01" + PIECE)
        with contextlib.suppress(Exception):
            await socket.receive()
        over.set()

    server.talk = talk
    mover = None
    if waits == "for the command":
        mover = await place.mover()
    writer = await place.writer()
    async with asyncio.timeout(60):
        if mover is not None:
            await server.connected.wait()
        else:
            while not catches_sigterm(writer.pid):  # noqa: ASYNC110 - another process does not tell
                await asyncio.sleep(0.05)
        writer.send_signal(signal.SIGTERM)
        await writer.communicate()
        assert writer.returncode == program.STOPPED
        assert not (place.handover / "status").exists()
        if mover is not None:
            mover.send_signal(signal.SIGTERM)
            await mover.communicate()
            assert place.snapshots() == []


async def test_a_stream_of_any_size_takes_the_same_memory(server: Server, place: Place) -> None:
    """Eight times the writer's memory goes through it."""
    peaks: list[int] = []

    async def talk(socket: web.WebSocketResponse) -> None:
        for number in range(16_384):
            await socket.send_bytes(b"\x01" + PIECE)
            if number % 1024 == 1023:
                peaks.append(resident(writer.pid))
        await end(SUCCESS)(socket)

    server.talk = talk
    mover, writer = await place.mover(), await place.writer()
    async with asyncio.timeout(120):
        (_, said), (out, _) = await asyncio.gather(writer.communicate(), mover.communicate())
    assert (writer.returncode, mover.returncode) == (0, 0), (said, out)
    assert max(peaks) < 80 << 20, peaks
    assert max(peaks) - peaks[0] < 8 << 20, peaks


def catches_sigterm(process: int) -> bool:
    """Whether it has got so far that it handles the signal itself."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def resident(process: int) -> int:
    """Its resident memory, in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024
