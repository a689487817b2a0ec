"""SFTP on a real sshd: whom it trusts, what a server may lack, and a connection that is lost or stuck."""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import signal
import stat
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from lowtide_engine.errors import StorageError, StorageFull
from lowtide_engine.storage import CONFIG, File, FileKind, StorageOptions, open_storage
from lowtide_engine.storage.retry import Retrying
from lowtide_engine.storage.sftp import SftpStorage, open_sftp
from tests.cluster import processes
from tests.fakes import FakeClock
from tests.sshd import PASSPHRASE, SshServer, ssh_server

pytestmark = pytest.mark.sftp
DATA = os.urandom(3_000_000)
PACK = File(FileKind.DATA, hashlib.sha256(DATA).hexdigest())


def opened(server: SshServer, path: str, *, passphrase: str = "", **options: str) -> SftpStorage:
    """A storage that is told no more than `options`; ~ has nothing that would help."""
    named = {f"sftp.{name.replace('_', '-')}": value for name, value in options.items()}
    environment = {"LOWTIDE_SFTP_PASSPHRASE": passphrase} if passphrase else {}
    return open_sftp(server.repository(path), StorageOptions(extended=named, environment=environment))


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def test_a_host_that_nobody_knows_is_refused(ssh_server: SshServer) -> None:
    storage = opened(ssh_server, "unknown", identity=str(ssh_server.key))
    with pytest.raises(StorageError, match="host's key") as caught:
        storage.create()
    assert caught.value.reason == "StorageRefused"
    assert "known-hosts" in caught.value.hint
    storage.close()


def test_a_host_with_another_key_than_known_is_refused(ssh_server: SshServer, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{ssh_server.port} {other}\n")
    storage = opened(ssh_server, "other", identity=str(ssh_server.key), known_hosts=str(known))
    with pytest.raises(StorageError, match="host's key"):
        storage.create()
    storage.close()


def test_a_host_is_known_by_its_fingerprint_alone(ssh_server: SshServer) -> None:
    right = opened(ssh_server, "fingerprint", identity=str(ssh_server.key), fingerprint=ssh_server.fingerprint)
    right.create()
    right.close()
    wrong = opened(ssh_server, "fingerprint", identity=str(ssh_server.key), fingerprint="SHA256:" + "A" * 43)
    with pytest.raises(StorageError, match="host's key"):
        wrong.create()
    wrong.close()


def test_the_known_hosts_and_keys_of_the_user_are_used(ssh_server: SshServer, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_bytes(ssh_server.known_hosts.read_bytes())
    (tmp_path / ".ssh" / "id_ed25519").write_bytes(ssh_server.key.read_bytes())
    storage = opened(ssh_server, "of the user")
    storage.create()
    storage.close()


def test_a_user_without_a_name_is_let_in_as_whom_the_location_says(
    ssh_server: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container, whose user is a number that no passwd file knows."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    with monkeypatch.context() as patch:
        patch.setenv("LOGNAME", "")
        patch.setattr(getpass, "getuser", lambda: os.environ["LOGNAME"] or nobody())
        storage = opened(ssh_server, "no name", identity=str(ssh_server.key), known_hosts=str(ssh_server.known_hosts))
        storage.create()
        storage.close()


def test_a_key_with_a_passphrase(ssh_server: SshServer) -> None:
    trusted = {"identity": str(ssh_server.sealed_key), "known_hosts": str(ssh_server.known_hosts)}
    storage = opened(ssh_server, "sealed", passphrase=PASSPHRASE, **trusted)
    storage.create()
    storage.close()
    for passphrase in ("", "not this one"):
        wrong = opened(ssh_server, "sealed", passphrase=passphrase, **trusted)
        with pytest.raises(StorageError, match=r"LOWTIDE_SFTP_PASSPHRASE|none of our keys") as caught:
            wrong.create()
        shown = "".join(traceback.format_exception(caught.value))
        assert caught.value.reason == "StorageRefused"
        assert not passphrase or passphrase not in shown
        wrong.close()


def test_a_key_that_the_server_does_not_know(ssh_server: SshServer, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "stranger"], check=True)
    known_hosts = str(ssh_server.known_hosts)
    storage = opened(ssh_server, "stranger", identity=str(tmp_path / "stranger"), known_hosts=known_hosts)
    with pytest.raises(StorageError, match="none of our keys") as caught:
        storage.create()
    assert caught.value.reason == "StorageRefused"
    storage.close()


def trusted(server: SshServer, path: str, clock: FakeClock, **settings: float) -> Retrying:
    options = StorageOptions(extended=server.options, environment={}, **settings)  # type: ignore[arg-type]
    storage = open_storage(server.repository(path), options, clock=clock)
    assert isinstance(storage, Retrying)
    return storage


@pytest.mark.parametrize("denied", ["posix-rename", "fsync,posix-rename,statvfs,limits"])
def test_a_server_that_lacks_openssh_extensions_will_do(denied: str) -> None:
    with ssh_server(denied=denied) as server:
        storage = trusted(server, "plain", FakeClock())
        storage.create()
        for content in (b"version 1", b"version 2, longer"):
            storage.save(CONFIG, content)
            assert storage.load(CONFIG) == content
        for _ in range(2):
            storage.save(PACK, DATA)
        assert storage.load(PACK) == DATA
        assert [path.name for path in (server.home / "plain/data").glob("*/*")] == [PACK.name]
        storage.close()


def test_files_are_read_only_and_private_or_of_the_group_as_the_config_is(ssh_server: SshServer) -> None:
    name = f"modes-{secrets.token_hex(3)}"
    folder = ssh_server.home / name
    storage = trusted(ssh_server, name, FakeClock())
    storage.create()
    storage.save(CONFIG, b"config")
    storage.save(PACK, DATA)
    storage.close()
    assert stat.S_IMODE((folder / "config").stat().st_mode) == 0o400
    assert stat.S_IMODE((folder / PACK.path).stat().st_mode) == 0o400
    folders = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
    assert len(folders) == 262
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    (folder / "config").chmod(0o440)
    shared = trusted(ssh_server, name, FakeClock())
    (folder / PACK.path).unlink()
    (folder / PACK.path).parent.rmdir()
    shared.save(PACK, DATA)
    shared.close()
    assert stat.S_IMODE((folder / PACK.path).stat().st_mode) == 0o440
    assert stat.S_IMODE((folder / PACK.path).parent.stat().st_mode) == 0o770


@pytest.fixture
def own_server() -> Iterator[SshServer]:
    with ssh_server() as server:
        yield server


def test_a_server_that_dies_and_comes_back_is_waited_for(own_server: SshServer) -> None:
    clock = FakeClock()
    storage = trusted(own_server, "outage", clock)
    storage.create()
    own_server.kill()
    clock.on_sleep = lambda _: own_server.restart() if len(clock.slept) == 2 else None
    storage.save(PACK, DATA)
    assert len(clock.slept) == 2
    assert storage.load(PACK) == DATA
    storage.close()


def test_a_server_that_hangs_is_given_up_and_asked_again(own_server: SshServer) -> None:
    clock = FakeClock()
    storage = trusted(own_server, "stuck", clock, stuck_timeout=5.0)
    storage.create()
    stopped = own_server.sessions()
    assert stopped
    for process in stopped:
        process.send(signal.SIGSTOP)
    storage.save(PACK, DATA)
    assert len(clock.slept) == 1
    assert storage.load(PACK) == DATA
    storage.close()
    processes.end(stopped, grace=0)


def test_a_full_disk_is_told_as_such_and_leaves_nothing(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a server a small disk of its own")
    with ssh_server(room="8m") as server:
        storage = trusted(server, "small", FakeClock())
        storage.create()
        contents = [os.urandom(3_000_000) for _ in range(3)]
        files = [File(FileKind.DATA, hashlib.sha256(data).hexdigest()) for data in contents]
        for file, data in zip(files[:2], contents[:2], strict=True):
            storage.save(file, data)
        with pytest.raises(StorageFull, match="no space is left"):
            storage.save(files[2], contents[2])
        assert {listed.name for listed in storage.list(FileKind.DATA)} == {file.name for file in files[:2]}
        storage.delete(files[0])
        storage.save(files[2], contents[2])
        assert storage.load(files[2]) == contents[2]
        storage.close()
