"""What opens the storage is shown nowhere: not in messages, logs, tracebacks or the result, however a command ends."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.storage.rest_stub import rest_stub

SECRET = "hunter2-and-more"
COMMANDS = [["snapshots", "--json", "-v"], ["init"], ["check", "-vv"]]


def shown(tmp_path: Path, arguments: list[str], **environment: str) -> tuple[int, str]:
    """The exit code and all that a command says about a repository, its result included."""
    result = tmp_path / "result.json"
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("RESTIC_", "AWS_"))}
    done = subprocess.run(
        [sys.executable, "-m", "lowtide_engine.cli", *arguments],
        env=variables
        | {"RESTIC_PASSWORD": "x", "LOWTIDE_RESULT_FILE": str(result), "HOME": str(tmp_path)}
        | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr + result.read_text()


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("fault", ["401", "308"])
def test_a_password_in_the_location(tmp_path: Path, arguments: list[str], fault: str) -> None:
    with rest_stub() as stub:
        stub.faults = [fault] * 50
        place = stub.location.replace("127.0.0.1", f"keeper:{SECRET}@127.0.0.1")
        code, said = shown(tmp_path, arguments, RESTIC_REPOSITORY=place)
    assert code == 1
    assert fault in said
    assert f"127.0.0.1:{stub.port}/repo" in said
    assert SECRET not in said
    assert base64.b64encode(f"keeper:{SECRET}".encode()).decode() not in said


@pytest.mark.parametrize(
    "place",
    [
        f"rest:http://me:{SECRET}@host:port/",
        f"rest:ftp://me:{SECRET}@host/",
        f"sftp://me:{SECRET}@host//srv",
        f"sftp:me:{SECRET}@host:/srv",
        f"s3:https://me:{SECRET}@host/bucket",
        f"s3:me:{SECRET}@host/bucket",
        f"rclone:me:{SECRET}@host",
    ],
)
def test_a_location_that_is_refused_is_not_repeated(tmp_path: Path, place: str) -> None:
    code, said = shown(tmp_path, ["snapshots", "-v"], RESTIC_REPOSITORY=place)
    assert code == 1
    assert SECRET not in said
