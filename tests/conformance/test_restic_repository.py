"""Repositories, keys, locks and snapshots that restic and Lowtide share, in a folder and in S3."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lowtide_engine.errors import RepositoryLocked, WrongPassword
from lowtide_engine.repository import (
    Holder,
    Instant,
    KdfParameters,
    LockFile,
    Password,
    Repository,
    Snapshot,
    init_repository,
    open_repository,
)
from lowtide_engine.storage import FileKind, StorageOptions, SystemClock, open_storage
from tests.conformance.restic import Restic
from tests.s3 import S3Server

pytestmark = pytest.mark.oracle

PASSWORD = "geheim mit ü"
KDF = KdfParameters(1024, 8, 1)


class Shared:
    """One location, as Lowtide and as restic see it."""

    def __init__(self, location: str, home: Path, credentials: dict[str, str]) -> None:
        self.storage = open_storage(location, StorageOptions(environment=credentials))
        self.restic = Restic.on(location, PASSWORD, home, credentials)

    def init(self, version: int = 2) -> Repository:
        return init_repository(self.storage, Password(PASSWORD), clock=SystemClock(), version=version, kdf=KDF)

    def open(self, password: str = PASSWORD) -> Repository:
        return open_repository(self.storage, Password(password), clock=SystemClock())

    def names(self, kind: FileKind) -> set[str]:
        return {listed.name for listed in self.storage.list(kind)}


@pytest.fixture(autouse=True)
def _sighup_is_ignored() -> Iterator[None]:
    """restic sends SIGHUP to the process of a lock to see whether it lives; whoever holds locks ignores it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shared]:
    location, credentials = str(tmp_path / "repo"), {}
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        location, credentials = server.repository(f"conformance/{secrets.token_hex(4)}"), server.environment
    made = Shared(location, tmp_path, credentials)
    yield made
    made.storage.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source & <more>"
    folder.mkdir()
    (folder / "file").write_text("content")
    return folder


@pytest.mark.parametrize("version", [1, 2])
def test_restic_opens_what_we_made(shared: Shared, source: Path, version: int) -> None:
    repository = shared.init(version)
    assert shared.restic.json("cat", "config") == {
        "version": version,
        "id": repository.id,
        "chunker_polynomial": f"{repository.config.chunker_polynomial:x}",
    }
    shared.restic.run("backup", source)
    shared.restic.run("check", "--read-data")
    [snapshot] = repository.unlocked().snapshots()
    assert snapshot.paths == (str(source),)
    assert repository.unlocked().load_index().load_blob("tree", snapshot.tree).startswith(b'{"nodes":[')


def test_we_open_what_restic_made(shared: Shared, source: Path) -> None:
    shared.restic.run("init")
    shared.restic.run("backup", source, "--tag", "a,b", "--exclude", "*.tmp")
    with shared.open() as repository, repository.locked(exclusive=True) as locked:
        [snapshot] = locked.snapshots()
        assert (snapshot.tags, snapshot.excludes) == (("a", "b"), ("*.tmp",))
        plaintext = repository.load_file(FileKind.SNAPSHOT, snapshot.id)
        assert Snapshot.decode("", plaintext).encode() == plaintext


def test_a_bucket_or_folder_that_is_missing_is_made_at_init(s3_server: S3Server, tmp_path: Path) -> None:
    bucket = f"new-{secrets.token_hex(4)}"
    location = f"s3:{s3_server.endpoint}/{bucket}/deep/er"
    shared = Shared(location, tmp_path, s3_server.environment)
    shared.init()
    shared.restic.run("check")
    shared.storage.close()


def test_passwords_that_either_adds(shared: Shared) -> None:
    repository = shared.init()
    name = repository.add_key(Password("ours"), kdf=KDF, username="user", hostname="host")
    listed = shared.restic.with_password("ours").json("key", "list")
    assert [(k["userName"], k["hostName"]) for k in listed if k["current"]] == [("user", "host")]  # type: ignore[attr-defined, index]
    new = Path(shared.restic.environment["HOME"]) / "new-password"
    new.write_text("theirs\n")
    shared.restic.run("key", "add", "--new-password-file", new)
    assert shared.open("theirs").id == repository.id
    assert {key.name for key in repository.list_keys()} == shared.names(FileKind.KEY)
    with repository.locked(exclusive=True):
        repository.remove_key(name)
    shared.restic.with_password("ours").run("cat", "config", expect=12)
    with shared.open("theirs") as again, again.locked(exclusive=True):
        again.change_password(Password("changed"), kdf=KDF)
    shared.restic.with_password("changed").run("check")
    with pytest.raises(WrongPassword):
        shared.open("theirs")


def test_restic_respects_our_locks(shared: Shared, source: Path) -> None:
    with shared.init().locked() as locked:
        assert locked.lock is not None
        assert shared.restic.run("list", "locks", "--no-lock").split() == [locked.lock.file.name]
        seen = shared.restic.json("cat", "lock", locked.lock.file.name, "--no-lock")
        assert isinstance(seen, dict)
        assert (seen["exclusive"], seen["pid"]) == (False, os.getpid())
        shared.restic.run("prune", expect=11)
        shared.restic.run("unlock")
        shared.restic.run("backup", source)
        locked.ensure()
    with shared.open() as repository, repository.locked(exclusive=True):
        shared.restic.run("backup", source, expect=11)
    assert shared.names(FileKind.LOCK) == set()


def test_we_respect_restics_locks(shared: Shared) -> None:
    repository = shared.init()
    process = shared.restic.start("backup", "--stdin")
    try:
        deadline = time.monotonic() + 60
        while not shared.names(FileKind.LOCK):
            assert process.poll() is None
            assert time.monotonic() < deadline, "restic took no lock"
            time.sleep(0.05)
        with pytest.raises(RepositoryLocked, match=f"pid {process.pid}"), repository.locked(exclusive=True):
            pass
        with repository.locked() as locked:
            assert locked.lock is not None
            assert repository.locks.remove_abandoned() == []
            assert len(shared.names(FileKind.LOCK)) == 2
    finally:
        process.kill()
        process.communicate()
    [left] = shared.names(FileKind.LOCK)
    on_the_host = Holder.myself().pid_namespace == "pid:[4026531836]"
    removed = [lock.name for lock in repository.locks.remove_abandoned()]
    assert removed == ([left] if on_the_host else [])


def test_restics_unlock_removes_what_we_left_long_ago(shared: Shared) -> None:
    repository = shared.init()
    me = replace(Holder.myself(), hostname="cluster.namespace.pod")
    for age in (10 * 60, 31 * 60):
        lock = LockFile(Instant.at(time.time() - age), True, me)
        repository.files.save(FileKind.LOCK, lock.encode())
    shared.restic.run("unlock")
    [left] = repository.locks.all()
    assert time.time() - left.time.timestamp < 11 * 60
    assert repository.locks.remove_all() == 1


def test_a_snapshot_that_we_wrote_anew_is_restics(shared: Shared, source: Path) -> None:
    repository = shared.init()
    shared.restic.run("backup", source)
    with repository.locked(exclusive=True) as locked:
        [first] = locked.snapshots()
        second = locked.save_snapshot(first.retagged(["lowtide:x", "ü"]))
        locked.delete_snapshot(first.id)
    [seen] = shared.restic.json("snapshots")  # type: ignore[misc]
    assert (seen["id"], seen["tags"], seen["original"]) == (second.id, ["lowtide:x", "ü"], first.id)
    shared.restic.run("check")
