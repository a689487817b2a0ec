"""What opens the storage is shown nowhere: not in messages, logs, tracebacks or the result, however a command ends; nor
to commands that are started, nor on a disk."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lowtide_engine.repository import Password, init_repository, open_repository
from lowtide_engine.storage import SystemClock, open_storage
from lowtide_engine.storage.sftp_location import PASSPHRASE_VARIABLE
from tests.cluster.waiting import wait_for
from tests.conformance.trees import make_plain_tree
from tests.unit.repository.conftest import CHEAP
from tests.unit.storage.rest_stub import rest_stub
from tests.unit.storage.s3_stub import s3_stub

SECRET = "hunter2-and-more"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_SESSION_TOKEN": f"the token of {SECRET}",
    "RESTIC_PASSWORD": SECRET,
    PASSPHRASE_VARIABLE: SECRET,
}
COMMANDS = [["snapshots", "--json", "-v"], ["init"], ["check", "-vv"]]


@contextlib.contextmanager
def started(tmp_path: Path, arguments: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A command that writes what it says into pipes, and its result into the folder. It ends with the block."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("RESTIC_", "AWS_"))}
    own = {"RESTIC_PASSWORD": "x", "LOWTIDE_RESULT_FILE": str(tmp_path / "result.json"), "HOME": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "lowtide_engine.cli", *arguments],
        env=variables | own | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def shown(tmp_path: Path, arguments: list[str], **environment: str) -> tuple[int, str]:
    """The exit code and all that a command says about a repository, its result included."""
    with started(tmp_path, arguments, **environment) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out + err + (tmp_path / "result.json").read_text()


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


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_the_keys_of_a_storage_that_fails_and_then_refuses(tmp_path: Path, arguments: list[str]) -> None:
    """What may pass is told before the call is repeated, a refusal at the end."""
    with s3_stub() as stub:
        stub.faults = ["500"] + ["403"] * 50
        code, said = shown(tmp_path, arguments, RESTIC_REPOSITORY=stub.location, **KEYS)
    assert code == 1
    assert "trying again" in said
    assert "StorageRefused" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "place",
    ["s3:http://127.0.0.1:1/bucket", f"rest:http://me:{SECRET}@127.0.0.1:1/", "sftp://me@127.0.0.1:1//srv"],
    ids=["s3", "rest", "sftp"],
)
def test_a_storage_that_is_out_of_reach(tmp_path: Path, place: str) -> None:
    with started(tmp_path, ["snapshots", "--json", "-vv"], RESTIC_REPOSITORY=place, **KEYS) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.terminate()
        out, err = process.communicate(timeout=120)
    said = first + out + err + (tmp_path / "result.json").read_text()
    assert "trying again" in first
    assert SECRET not in said


def test_a_wrong_password(tmp_path: Path) -> None:
    place = str(tmp_path / "repository")
    init_repository(open_storage(place), Password("the right one"), clock=SystemClock(), kdf=CHEAP).close()
    code, said = shown(tmp_path, ["snapshots", "--json", "-vv"], RESTIC_REPOSITORY=place, RESTIC_PASSWORD=SECRET)
    assert code == 12
    assert SECRET not in said


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


def asked_by_ssh(home: Path, script: str) -> dict[str, str]:
    """Make asyncssh start the script as the way to a host."""
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text(f"Host *\n  ProxyCommand {script}\n")
    return {"RESTIC_REPOSITORY": "sftp:nobody@host.invalid:/srv"}


def asked_by_boto(home: Path, script: str) -> dict[str, str]:
    """Make boto3 start the script to get credentials."""
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text(f"[profile asks]\ncredential_process = {script}\n")
    return {"RESTIC_REPOSITORY": "s3:http://127.0.0.1:1/bucket", "AWS_PROFILE": "asks"}


def asked_for_the_password(home: Path, script: str) -> dict[str, str]:
    """Make lowtide start the script to get the password."""
    return {"RESTIC_REPOSITORY": str(home / "none"), "RESTIC_PASSWORD_COMMAND": script}


@pytest.mark.parametrize(
    "asked", [asked_by_ssh, asked_by_boto, asked_for_the_password], ids=lambda asked: asked.__name__
)
def test_whatever_is_started_sees_no_secret(tmp_path: Path, asked: Any) -> None:
    seen = tmp_path / "seen.json"
    program = tmp_path / "program.py"
    draft = tmp_path / "draft"
    program.write_text(
        f"import json, os, sys\nopen({str(draft)!r}, 'w').write(json.dumps([sys.argv, dict(os.environ)]))\n"
        f"os.rename({str(draft)!r}, {str(seen)!r})\n"
    )
    secrets = {
        "RESTIC_PASSWORD": SECRET,
        "RESTIC_FROM_PASSWORD": SECRET,
        "RESTIC_REST_PASSWORD": SECRET,
        "LOWTIDE_SFTP_PASSPHRASE": SECRET,
        "RESTIC_FROM_REPOSITORY": f"rest:https://me:{SECRET}@host/",
    }
    own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KEPT": "kept"}
    place = asked(tmp_path, f"{shlex.quote(sys.executable)} {program}")
    command = [sys.executable, "-m", "lowtide_engine.cli", "snapshots"]
    with subprocess.Popen(command, env=own | secrets | place, stderr=subprocess.DEVNULL) as process:
        wait_for("the script", lambda: seen.exists() or process.poll() is not None, within=60, seen=lambda: "nothing")
        process.terminate()
        process.wait(60)
    argv, environment = json.loads(seen.read_text())
    assert environment["KEPT"] == "kept"
    assert SECRET not in str(environment)
    assert SECRET not in str(argv)


def let_it_dump() -> None:
    """Allow core files, as far as this machine does."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


def test_a_crash_leaves_no_memory_on_a_disk(tmp_path: Path) -> None:
    """Keys are in the memory of a command, and a core file is a copy of it."""
    limits = tmp_path / "limits"
    own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "RESTIC_REPOSITORY": str(tmp_path / "none")}
    asking = own | {"RESTIC_PASSWORD_COMMAND": f"sh -c 'cat /proc/$PPID/limits > {limits}'"}
    command = [sys.executable, "-m", "lowtide_engine.cli", "snapshots"]
    subprocess.run(command, env=asking, preexec_fn=let_it_dump, stderr=subprocess.DEVNULL, timeout=120, check=False)
    [line] = [line for line in limits.read_text().splitlines() if line.startswith("Max core file size")]
    assert line.split()[4] == "0"


def test_no_key_is_written_anywhere(tmp_path: Path) -> None:
    """Not into the repository, the cache, a temporary folder or a result."""
    make_plain_tree(tmp_path / "source")
    folders = {name: str(tmp_path / name) for name in ("TMPDIR", "XDG_CACHE_HOME")}
    for folder in folders.values():
        Path(folder).mkdir()
    place = {"RESTIC_REPOSITORY": str(tmp_path / "repository"), "RESTIC_PASSWORD": SECRET} | folders
    restore = ["restore", "latest", "--target", str(tmp_path / "back")]
    for arguments in (["init"], ["backup", str(tmp_path / "source")], ["check", "--read-data"], restore):
        assert shown(tmp_path, arguments, **place)[0] == 0
    storage = open_storage(place["RESTIC_REPOSITORY"])
    with open_repository(storage, Password(SECRET), clock=SystemClock()) as repository:
        key = json.loads(repository._master.to_json())
    texts = [SECRET, key["encrypt"], key["mac"]["k"], key["mac"]["r"]]
    raw = [base64.b64decode(text) for text in texts[1:]]
    looked_for = [*(text.encode() for text in texts), *raw, *(one.hex().encode() for one in raw)]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"repository", "XDG_CACHE_HOME", "result.json"} <= {path.relative_to(tmp_path).parts[0] for path in files}
    for path in files:
        data = path.read_bytes()
        assert not [one for one in looked_for if one in data], path
