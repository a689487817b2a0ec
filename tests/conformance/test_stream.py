"""Streams into files of snapshots, against restic's own program; and streams that fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lowtide_engine.contract import RESULT_FILE_VARIABLE, decode
from tests.conformance.actors import Lowtide, Restic

pytestmark = pytest.mark.oracle

MOMENT = "2024-02-03 04:05:06"
CONTENT = bytes(range(256)) * (9 << 12) + os.urandom(3 << 20)


def piped(actor: Lowtide | Restic, content: bytes, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [*actor.command, "backup", *arguments], env=actor.variables(), input=content, capture_output=True, timeout=120
    )
    assert done.returncode == code, done.stderr
    return done.stderr.decode()


def dumped(actor: Lowtide | Restic, path: str) -> bytes:
    done = subprocess.run(
        [*actor.command, "dump", "latest", path], env=actor.variables(), capture_output=True, timeout=120, check=True
    )
    return done.stdout


def trees(actor: Lowtide | Restic) -> list[str]:
    return [snapshot["tree"] for snapshot in actor.snapshots()]


def failed(lowtide: Lowtide) -> tuple[str, str]:
    """Why the run that just ended made no snapshot: reason and message."""
    result = lowtide.result
    assert result is not None
    assert lowtide.snapshots() == []
    return result.reason, result.message


@pytest.fixture
def ready(lowtide: Lowtide) -> Lowtide:
    lowtide.run("init")
    return lowtide


@pytest.mark.parametrize("name", ["stdin", "dumps/shop/shop.sql", "../x//y/"], ids=["plain", "in folders", "odd"])
def test_trees_and_paths_are_restics(ready: Lowtide, restic: Restic, name: str) -> None:
    options = ("--stdin", "--stdin-filename", name, "--time", MOMENT, "--host", "h")
    piped(restic, CONTENT, *options)
    piped(ready, CONTENT, *options)

    theirs, ours = ready.snapshots()
    assert theirs["tree"] == ours["tree"]
    assert theirs["paths"] == ours["paths"]
    restic.run("check", "--read-data")


def test_each_reads_what_the_other_stored_of_a_command(ready: Lowtide, restic: Restic) -> None:
    command = ("--stdin-from-command", "--stdin-filename", "numbers", "--time", MOMENT, "--", "seq", "3000000")
    expected = subprocess.run(["seq", "3000000"], capture_output=True, check=True).stdout

    ready.run("backup", *command)
    assert dumped(restic, "/numbers") == expected
    restic.run("backup", *command)
    assert dumped(ready, "/numbers") == expected
    assert len(set(trees(ready))) == 1


def test_a_command_that_fails_after_writing_everything_makes_no_snapshot(ready: Lowtide) -> None:
    script = "seq 2000000; echo the disk is on fire >&2; exit 7"
    ready.run("backup", "--stdin-from-command", "--", "sh", "-c", script, code=1)

    reason, message = failed(ready)
    assert reason == "StreamFailed"
    assert message.startswith("the command sh failed with code 7: the disk is on fire")


@pytest.mark.parametrize(
    ("command", "reason", "says"),
    [
        (["sh", "-c", "echo some; kill -9 $$"], "StreamFailed", "was ended by signal 9"),
        (["/no/such/program"], "StreamFailed", "could not start the command /no/such/program"),
        (["true"], "StreamEmpty", "without a single byte"),
        (["false"], "StreamFailed", "failed with code 1"),
    ],
    ids=["killed", "missing", "silent", "silent and failed"],
)
def test_what_ends_wrongly_makes_no_snapshot(ready: Lowtide, command: list[str], reason: str, says: str) -> None:
    ready.run("backup", "--stdin-from-command", "--", *command, code=1)

    told = failed(ready)
    assert told[0] == reason
    assert says in told[1]


def test_a_command_does_not_see_the_repositorys_password(ready: Lowtide) -> None:
    ready.run("backup", "--stdin-from-command", "--", "env")

    seen = dumped(ready, "/stdin")
    assert b"PATH=" in seen
    assert b"RESTIC_PASSWORD" not in seen


def test_a_signal_ends_the_command_too(ready: Lowtide, tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid.part; mv {tmp_path}/pid.part {tmp_path}/pid; seq 10; sleep 600"
    process = ready.start("backup", "--stdin-from-command", "--", "sh", "-c", script)
    waited_for(tmp_path / "pid")
    child = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGTERM)

    process.communicate(timeout=120)
    assert process.returncode == 130
    assert not Path(f"/proc/{child}").exists()
    assert ready.snapshots() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--stdin", "folder"],
        ["--stdin", "--stdin-from-command", "true"],
        ["--stdin-from-command"],
        ["--stdin", "--stdin-filename", "/"],
        [],
    ],
    ids=["files too", "two sources", "no command", "no name", "nothing"],
)
def test_what_can_not_be_meant_is_refused(ready: Lowtide, arguments: list[str]) -> None:
    ready.run("backup", *arguments, code=1)
    assert failed(ready)[0] == "BadArguments"


def handed_over(lowtide: Lowtide, folder: Path, script: str) -> tuple[int, str]:
    """A backup that reads what the script writes into the FIFO, as two containers do: its exit code and messages."""
    folder.mkdir()
    process = lowtide.start("backup", "--stdin-handover", str(folder), "--stdin-filename", "dump")
    waited_for(folder / "stream")
    subprocess.run(["sh", "-c", script], cwd=folder, check=False, timeout=120)
    _, messages = process.communicate(timeout=120)
    return process.returncode, messages.decode()


def waited_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


def test_a_stream_that_is_handed_over_whole_is_stored(ready: Lowtide, restic: Restic, tmp_path: Path) -> None:
    code, messages = handed_over(ready, tmp_path / "shared", "(seq 500000; sleep 1; seq 3) > stream; echo $? > status")

    assert code == 0, messages
    expected = subprocess.run(["sh", "-c", "seq 500000; seq 3"], capture_output=True, check=True).stdout
    assert dumped(restic, "/dump") == expected


def test_a_writer_that_fails_after_writing_everything_makes_no_snapshot(ready: Lowtide, tmp_path: Path) -> None:
    code, messages = handed_over(ready, tmp_path / "shared", "sh -c 'seq 500000; exit 3' > stream; echo $? > status")

    assert code == 1
    assert "failed with code 3" in messages
    assert ready.snapshots() == []


def test_a_cut_stream_makes_no_snapshot(lowtide: Lowtide, tmp_path: Path) -> None:
    """The writer is killed: nobody says how it ended."""
    program = (
        "import sys\nfrom lowtide_engine import stream\nstream.STATUS_SECONDS = 0.5\n"
        "from lowtide_engine.cli.process import run\nsys.exit(run(sys.argv[1:]))"
    )
    lowtide.run("init")
    short = Lowtide([sys.executable, "-c", program], lowtide.repository, lowtide.environment)
    code, _ = handed_over(short, tmp_path / "shared", "sh -c 'seq 500000; kill -9 $PPID' > stream; echo $? > status")

    assert code == 1
    result = decode(Path(lowtide.environment[RESULT_FILE_VARIABLE]).read_bytes())
    assert (result.reason, result.message.split(":")[0]) == ("StreamFailed", "the stream was cut")
    assert lowtide.snapshots() == []
