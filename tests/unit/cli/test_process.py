"""One run of the program: exit codes, the result document in every outcome, and what is imported for it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lowtide_engine.cli.root import COMMANDS
from lowtide_engine.contract import RESULT_FILE_VARIABLE, Outcome, Result, decode

PROGRAM = [sys.executable, "-m", "lowtide_engine.cli"]


def variables(tmp_path: Path, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RESTIC_", "AWS_", "LOWTIDE_"))}
    return clean | {RESULT_FILE_VARIABLE: str(tmp_path / "result"), "RESTIC_CACHE_DIR": str(tmp_path / "cache")} | more


def run(tmp_path: Path, *arguments: str, **more: str) -> tuple[subprocess.CompletedProcess[str], Result]:
    done = subprocess.run(
        [*PROGRAM, *arguments],
        env=variables(tmp_path, **more),
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return done, decode((tmp_path / "result").read_bytes())


BAD_INPUT = {
    "an unknown option": (["backup", "--bogus"], "backup"),
    "no target": (["backup"], "backup"),
    "an unknown command": (["bakcup"], "lowtide"),
    "no command": ([], "lowtide"),
    "a size that is none": (["backup", "--exclude-larger-than", "huge", "/x"], "backup"),
    "a reserved tag": (["backup", "--tag", "a,lowtide:run=1", "/x"], "backup"),
    "a subset that is none": (["check", "--read-data-subset", "3/2"], "check"),
    "a verdict over no run": (["verdict", "--member", "a" * 64], "verdict"),
    "nothing to forget": (["forget"], "forget"),
    "a pack size that is none": (["--pack-size", "3", "snapshots"], "snapshots"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_ends_with_1_a_sentence_and_a_result(case: str, tmp_path: Path) -> None:
    arguments, command = BAD_INPUT[case]

    done, result = run(tmp_path, *arguments, RESTIC_REPOSITORY=str(tmp_path), RESTIC_PASSWORD="x")

    assert done.returncode == 1
    assert done.stderr or done.stdout
    assert "Traceback" not in done.stderr
    assert (result.command, result.outcome, result.reason) == (command, Outcome.FAILED, "BadArguments")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_has_help_and_a_result(command: str, tmp_path: Path) -> None:
    done, result = run(tmp_path, command, "--help")

    assert done.returncode == 0
    assert "Usage: lowtide" in done.stdout
    assert result.outcome is Outcome.OK


def test_no_repository_ends_with_10_and_says_what_to_do(tmp_path: Path) -> None:
    done, result = run(tmp_path, "snapshots", RESTIC_REPOSITORY=str(tmp_path / "none"), RESTIC_PASSWORD="x")

    assert done.returncode == 10
    assert "lowtide init" in done.stderr
    assert result.reason == "RepositoryMissing"


def test_json_complains_in_json(tmp_path: Path) -> None:
    done, _ = run(tmp_path, "snapshots", "--json", RESTIC_REPOSITORY=str(tmp_path / "none"), RESTIC_PASSWORD="x")

    assert json.loads(done.stderr)["code"] == 10


def test_options_count_before_and_after_the_command(tmp_path: Path) -> None:
    for arguments in (["-r", str(tmp_path / "a"), "snapshots"], ["snapshots", "-r", str(tmp_path / "a")]):
        done, _ = run(tmp_path, *arguments, RESTIC_REPOSITORY=str(tmp_path / "b"), RESTIC_PASSWORD="x")
        assert str(tmp_path / "a") in done.stderr


def test_a_result_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    environment = variables(tmp_path) | {RESULT_FILE_VARIABLE: str(tmp_path / "no" / "such" / "folder")}

    done = subprocess.run([*PROGRAM, "version"], env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "result could not be written" in done.stderr


def test_the_result_is_written_in_place(tmp_path: Path) -> None:
    """The kubelet bind-mounts the file: it can't be replaced."""
    (tmp_path / "result").write_bytes(b"x" * 10_000)
    before = (tmp_path / "result").stat().st_ino

    _, result = run(tmp_path, "version")

    assert result.outcome is Outcome.OK
    assert (tmp_path / "result").stat().st_ino == before


def test_a_reader_that_goes_away_is_no_crash(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "--help"], env=variables(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=60)

    assert "Traceback" not in errors
    assert decode((tmp_path / "result").read_bytes()).command == "lowtide"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_password_prompt_ends_it_at_once(number: signal.Signals, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    started = time.monotonic()
    process = subprocess.Popen(
        [*PROGRAM, "init", "-r", str(tmp_path / "new")],
        env=variables(tmp_path),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    seen = b""
    while b"password" not in seen:
        seen += os.read(master, 1000)

    began = time.monotonic()
    process.send_signal(number)
    code = process.wait(timeout=20)
    os.close(master)

    assert code == 130
    # No longer than it took to come to the prompt, where the machine is slow.
    assert time.monotonic() - began < max(5, began - started)
    assert decode((tmp_path / "result").read_bytes()).reason == "Interrupted"
    assert not (tmp_path / "new" / "config").exists()


LIST_MODULES = """
import os, sys
from lowtide_engine.cli.process import run
run(sys.argv[1:])
with open(os.environ["MODULES"], "w") as file:
    file.write("\\n".join(sys.modules))
"""


def imported(tmp_path: Path, *arguments: str, **more: str) -> set[str]:
    """The modules that are loaded when a run ends."""
    file = tmp_path / "modules"
    environment = variables(tmp_path, MODULES=str(file), **more)
    subprocess.run([sys.executable, "-c", LIST_MODULES, *arguments], env=environment, capture_output=True, timeout=60)
    return set(file.read_text().split())


HEAVY = {"boto3", "botocore", "rich", "cryptography", "lowtide_engine._kernel", "tarfile"}


def test_help_imports_click_and_no_command(tmp_path: Path) -> None:
    modules = imported(tmp_path, "--help")

    assert "click" in modules
    assert not modules & HEAVY
    own = {name for name in modules if name.startswith("lowtide_engine.")}
    assert own == {
        "lowtide_engine.cli",
        "lowtide_engine.cli.options",
        "lowtide_engine.cli.process",
        "lowtide_engine.cli.root",
        "lowtide_engine.cli.signals",
        "lowtide_engine.cli.values",
        "lowtide_engine.contract",
    }


@pytest.mark.parametrize("command", ["backup", "restore", "check", "snapshots", "preflight"])
def test_a_local_repository_costs_no_s3_client_and_no_terminal_library(command: str, tmp_path: Path) -> None:
    arguments = {"backup": [str(tmp_path)], "restore": ["latest", "--target", str(tmp_path / "out")]}.get(command, [])

    modules = imported(tmp_path, command, *arguments, RESTIC_REPOSITORY=str(tmp_path / "r"), RESTIC_PASSWORD="x")

    assert "lowtide_engine.storage.local" in modules
    assert not modules & {"boto3", "botocore", "rich", "tarfile", "lowtide_engine.storage.s3"}
