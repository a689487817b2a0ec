"""The main flow in every storage that is a server, with restic on the same repository, and with the server going away
in the middle.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lowtide_engine.contract import RESULT_FILE_VARIABLE, decode
from tests.conformance.actors import PASSWORD, Lowtide, Restic
from tests.conformance.trees import describe, differences, make_plain_tree
from tests.rest import RestServer, rest_server
from tests.s3 import S3Server, s3_server
from tests.sshd import PASSPHRASE, SshServer, ssh_server

pytestmark = pytest.mark.oracle


SLOW_BYTES = 300_000
WRONG = "a wrong secret"


@dataclass
class Served:
    """A repository on a server: where it is, what both programs must know, what is wrong to know, what nobody may be
    shown."""

    server: S3Server | SshServer | RestServer
    place: str
    folder: Path
    environment: dict[str, str]
    wrong: dict[str, str]
    secret: str
    restic_options: list[str] = field(default_factory=list)

    def packs(self) -> int:
        """How many packs are stored."""
        return sum(len(path.name) == 64 for path in self.folder.glob("data/*/*"))


def _s3() -> Iterator[Served]:
    with s3_server() as server:
        folder = server.folder / server.bucket / "some/prefix"
        wrong = {"AWS_SECRET_ACCESS_KEY": WRONG}
        yield Served(server, server.repository("some/prefix"), folder, server.environment, wrong, server.secret_key)


def _sftp() -> Iterator[Served]:
    with ssh_server() as server:
        arguments = f"-i {server.key} -o IdentitiesOnly=yes -o UserKnownHostsFile={server.known_hosts}"
        environment = {
            "LOWTIDE_SFTP_IDENTITY": str(server.key),
            "LOWTIDE_SFTP_KNOWN_HOSTS": str(server.known_hosts),
        }
        wrong = {"LOWTIDE_SFTP_IDENTITY": str(server.sealed_key), "LOWTIDE_SFTP_PASSPHRASE": WRONG}
        options = ["-o", f"sftp.args={arguments}"]
        yield Served(server, server.repository("repo"), server.home / "repo", environment, wrong, PASSPHRASE, options)


def _rest() -> Iterator[Served]:
    with rest_server() as server:
        wrong = {"RESTIC_REST_PASSWORD": WRONG}
        folder = server.folder / "repo"
        yield Served(server, server.repository("repo"), folder, server.environment, wrong, server.password)


MAKERS: dict[str, Callable[[], Iterator[Served]]] = {"s3": _s3, "sftp": _sftp, "rest": _rest}


@pytest.fixture(params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in MAKERS])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    yield from MAKERS[request.param]()


@pytest.fixture
def place(served: Served) -> str:
    return served.place


@pytest.fixture
def restic(restic: Restic, served: Served) -> Restic:
    restic.environment |= served.environment
    restic.command = [*restic.command, *served.restic_options]
    return restic


@pytest.fixture
def lowtide(lowtide: Lowtide, served: Served) -> Lowtide:
    lowtide.environment |= served.environment
    return lowtide


def assert_restored(actor: Lowtide | Restic, snapshot: str, source: Path, target: Path) -> None:
    actor.run("restore", f"{snapshot}:/{source.name}", "--target", target)
    expected, actual = describe(source), describe(target)
    expected.pop(b"."), actual.pop(b".")
    assert differences(expected, actual) == []


def test_a_repository_goes_both_ways(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_plain_tree(source, large=20 * 1024 * 1024)
    lowtide.run("preflight", "--init")

    first = lowtide.backup("source", cwd=tmp_path)
    second = restic.backup("source", cwd=tmp_path)
    assert second["data_blobs"] == 0
    assert lowtide.backup("source", cwd=tmp_path)["data_blobs"] == 0
    restic.run("check", "--read-data")
    lowtide.run("check", "--read-data")
    assert_restored(restic, first["snapshot_id"], source, tmp_path / "by restic")
    assert_restored(lowtide, first["snapshot_id"], source, tmp_path / "by lowtide")


def test_what_restic_made_is_gone_on_with(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_plain_tree(source, large=6 * 1024 * 1024)
    restic.run("init")
    snapshot = restic.backup("source", cwd=tmp_path)["snapshot_id"]
    assert lowtide.backup("source", cwd=tmp_path)["data_blobs"] == 0
    assert_restored(lowtide, snapshot, source, tmp_path / "back")


def test_wrong_credentials_say_so_and_are_not_repeated(lowtide: Lowtide, served: Served) -> None:
    lowtide.run("init")

    for wrong, reason in ((served.wrong, "StorageRefused"), ({"RESTIC_PASSWORD": WRONG}, "WrongPassword")):
        ran = lowtide.run("snapshots", "--json", "-vv", code=None, extra=wrong)

        assert lowtide.result is not None
        assert lowtide.result.reason == reason
        said = ran.err + ran.out + str(lowtide.result)
        assert [secret for secret in (WRONG, PASSWORD, served.secret) if secret in said] == []


def test_forgetting_and_pruning(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_plain_tree(source, large=6 * 1024 * 1024)
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)
    (source / "unique").write_bytes(secrets.token_bytes(1_000_000))
    restic.backup("source", cwd=tmp_path)
    (source / "unique").unlink()
    lowtide.backup("source", cwd=tmp_path)

    lowtide.run("forget", "--keep-last", "1", "--prune", "--max-unused", "0", "--group-by", "")

    assert len(restic.snapshots()) == 1
    restic.run("check", "--read-data", "--check-unused")
    assert "nothing to do" in lowtide.run("prune", "--max-unused", "0").out
    assert_restored(restic, "latest", source, tmp_path / "restored")


def test_a_server_that_is_killed_in_the_middle_and_comes_back_costs_nothing(
    lowtide: Lowtide, restic: Restic, served: Served, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    make_plain_tree(source, large=60 * 1024 * 1024)
    lowtide.run("init")
    process = lowtide.start("backup", "--json", "--pack-size", "4", "--limit-upload", "16000", source)

    _until(lambda: served.packs() >= 3 or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1].decode()
    served.server.kill()
    stored = served.packs()
    served.server.restart()
    _, errors = process.communicate(timeout=120)

    assert process.returncode == 0, errors.decode()
    assert "trying again" in errors.decode()
    assert served.packs() > stored
    result = decode(Path(lowtide.environment[RESULT_FILE_VARIABLE]).read_bytes())
    assert result.outcome == "ok"
    restic.run("check", "--read-data")
    restic.run("restore", f"latest:{source}", "--target", tmp_path / "back")
    assert not [line for line in differences(describe(source), describe(tmp_path / "back")) if "b'.'" not in line]


def test_a_slow_upload_is_seen_to_move_within_one_pack(lowtide: Lowtide, served: Served, tmp_path: Path) -> None:
    """The operator gives up a mover whose log is silent."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(SLOW_BYTES))
    lowtide.run("init")

    ran = lowtide.run("backup", "--json", "--limit-upload", "32", source, extra={"RESTIC_PROGRESS_FPS": "4"})

    assert served.packs() == 2, "data and trees"
    told = [line["bytes_transferred"] for line in ran.messages("status") if line["bytes_done"] == SLOW_BYTES]
    assert told == sorted(set(told))
    assert len(told) >= 8, "some 9 seconds pass, and four times a second more has been sent"


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
