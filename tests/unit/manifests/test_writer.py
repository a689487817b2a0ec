"""The shell around the command of a stream, beside the engine's own end of the handover."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lowtide_engine.stream import PIPE_FILE, STATUS_FILE, Handover, StreamFailed
from lowtide_operator.manifests.command import HANDOVER
from lowtide_operator.manifests.stream import SCRIPT

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "database-dump.yaml"


@contextlib.contextmanager
def writing(folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """The shell with the command, in a session of its own that ends with the block."""
    script = SCRIPT.replace(HANDOVER, str(folder))
    process = subprocess.Popen(["sh", "-c", script, "writer", *command], start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def received(descriptor: int) -> bytes:
    os.set_blocking(descriptor, True)
    found = b""
    while data := os.read(descriptor, 1 << 16):
        found += data
    return found


def await_writer(descriptor: int) -> None:
    """The reader opened the FIFO without waiting, so its end could mean that nobody has begun."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(20_000)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(("sh", "-c", "printf 'two  words'; exit 0"), 0, id="it does well"),
        pytest.param(("sh", "-c", "printf 'two  words'; exit 3"), 3, id="it fails after it wrote everything"),
        pytest.param(("sh", "-c", "printf 'two  words'; kill -9 $$"), 137, id="it is killed"),
    ],
)
def test_how_the_command_ended_is_handed_over_after_all_that_it_wrote(
    tmp_path: Path, command: tuple[str, ...], code: int
) -> None:
    with Handover(tmp_path).opened(threading.Event()) as stream, writing(tmp_path, *command) as process:
        await_writer(stream.descriptor)
        assert received(stream.descriptor) == b"two  words"
        if code == 0:
            stream.conclude()
        else:
            with pytest.raises(StreamFailed, match=f"code {code}"):
                stream.conclude()
        assert process.wait(20) == code


def test_a_command_that_is_not_there_fails(tmp_path: Path) -> None:
    with Handover(tmp_path).opened(threading.Event()) as stream, writing(tmp_path, "no-such-command") as process:
        assert process.wait(20) == 127
        with pytest.raises(StreamFailed, match="code 127"):
            stream.conclude()


def test_a_shell_that_is_told_to_end_does_so_while_its_command_runs_and_says_nothing_of_its_end(tmp_path: Path) -> None:
    with (
        Handover(tmp_path).opened(threading.Event()) as stream,
        writing(tmp_path, "sh", "-c", "echo begun; sleep 600") as process,
    ):
        await_writer(stream.descriptor)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
        assert not (tmp_path / STATUS_FILE).exists()
        assert (tmp_path / PIPE_FILE).exists()


def test_the_job_of_the_how_to_has_the_same_shell() -> None:
    pod = yaml.safe_load(PAGE.read_text())["spec"]["template"]["spec"]
    mover, writer = pod["containers"]
    assert writer["command"] == ["sh", "-c", SCRIPT, "writer"]
    assert mover["args"][:3] == ["backup", "--stdin-handover", HANDOVER]
    assert {m["name"] for m in writer["volumeMounts"]} == {"handover"}
