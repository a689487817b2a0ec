"""Folders, modes, temporary files and the order that makes a save durable."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lowtide_engine.errors import FileMissing, FileUnreadable, StorageError, StorageFull, StorageRefused
from lowtide_engine.storage import CONFIG, File, FileKind, Listed, local
from lowtide_engine.storage.local import LocalStorage

DATA = b"a pack"
PACK = File(FileKind.DATA, hashlib.sha256(DATA).hexdigest())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    made = LocalStorage(tmp_path / "repo")
    made.create()
    return made


def test_init_makes_restics_folders(storage: LocalStorage) -> None:
    assert sorted(p.name for p in storage.root.iterdir()) == ["data", "index", "keys", "locks", "snapshots"]
    assert sorted(p.name for p in (storage.root / "data").iterdir()) == [f"{n:02x}" for n in range(256)]


def test_a_private_repository_is_for_its_owner_only(storage: LocalStorage) -> None:
    storage.save(CONFIG, b"config")
    storage.save(PACK, DATA)
    assert mode(storage.root) == 0o700
    assert mode(storage.root / "data") == mode(storage.root / "data" / "00") == 0o700
    assert mode(storage.root / "config") == mode(storage.root / PACK.path) == 0o400


@pytest.mark.parametrize("folder_mode", [0o770, 0o2775, 0o2770])
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_on_a_claim_everything_is_open_to_the_group(tmp_path: Path, folder_mode: int, umask: int) -> None:
    """A volume with an fsGroup has a root that the group may write, with the setgid bit; another uid prunes what we
    wrote.
    """
    root = tmp_path / "claim"
    root.mkdir()
    root.chmod(folder_mode)
    before = os.umask(umask)
    try:
        storage = LocalStorage(root)
        storage.create()
        storage.save(CONFIG, b"config")
        again = LocalStorage(root)
        again.save(PACK, DATA)
    finally:
        os.umask(before)
    assert mode(root / "data") == mode(root / "data" / "00") == 0o770 | folder_mode & 0o2000
    assert mode(root / "config") == mode(root / PACK.path) == 0o440


@pytest.mark.parametrize(("claim_mode", "made"), [(0o2775, 0o2770), (0o2770, 0o2770), (0o775, 0o700), (0o1777, 0o700)])
def test_a_repository_in_a_folder_of_a_claim_is_shared_as_the_claim_is(
    tmp_path: Path, claim_mode: int, made: int
) -> None:
    """Only a folder that hands its group down is taken for a shared one: /tmp is open to everybody, and no claim."""
    claim = tmp_path / "claim"
    claim.mkdir()
    claim.chmod(claim_mode)
    storage = LocalStorage(claim / "cluster" / "repo")
    storage.create()
    storage.save(CONFIG, b"config")
    assert mode(claim / "cluster") == mode(storage.root) == mode(storage.root / "data") == made
    assert mode(storage.root / "config") == (0o440 if made & 0o070 else 0o400)
    assert mode(claim) == claim_mode


def test_modes_follow_the_config_of_an_old_repository(storage: LocalStorage) -> None:
    storage.save(CONFIG, b"config")
    (storage.root / "config").chmod(0o640)
    (storage.root / "data" / PACK.name[:2]).rmdir()
    again = LocalStorage(storage.root)
    again.save(PACK, DATA)
    assert mode(storage.root / PACK.path) == 0o440
    assert mode((storage.root / PACK.path).parent) == 0o770


def test_a_missing_folder_of_packs_is_made(storage: LocalStorage) -> None:
    (storage.root / "data" / PACK.name[:2]).rmdir()
    storage.save(PACK, DATA)
    assert storage.load(PACK) == DATA


def test_a_missing_repository_is_not_made_by_a_save(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "not mounted")
    with pytest.raises(StorageError, match="mounted"):
        storage.save(PACK, DATA)
    assert not storage.root.exists()


def test_what_is_no_repository_file_is_not_listed(storage: LocalStorage) -> None:
    storage.save(PACK, DATA)
    folder = (storage.root / PACK.path).parent
    (folder / f"{PACK.name}-tmp-1234").write_bytes(b"left by a crash")
    (folder / ("f" * 64 if PACK.name[0] != "f" else "0" * 64)).write_bytes(b"in the wrong folder")
    (storage.root / "data" / "lost+found").mkdir()
    (storage.root / "locks" / "README").write_text("hello")
    (storage.root / "locks" / ("a" * 64)).mkdir()
    assert [*storage.list(FileKind.DATA)] == [Listed(PACK.name, len(DATA))]
    assert [*storage.list(FileKind.LOCK)] == []


def test_a_failed_write_leaves_nothing(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageFull, match="No space left"):
            storage.save(PACK, DATA)
    assert [*(storage.root / PACK.path).parent.iterdir()] == []
    with pytest.raises(FileMissing):
        storage.load(PACK)


def test_a_file_is_synced_before_its_name_and_its_folder_after(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    def note_rename(source: str, target: Path) -> None:
        steps.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    storage.save(PACK, DATA)
    assert steps == ["sync file", "rename", "sync folder"]


def test_a_folder_that_is_made_on_the_way_is_as_durable_as_the_file_in_it(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    (storage.root / "data" / PACK.name[:2]).rmdir()
    monkeypatch.setattr(os, "fsync", note)
    storage.save(PACK, DATA)
    assert {str(storage.root), str(storage.root / "data"), str(storage.root / "data" / PACK.name[:2])} <= {*synced}


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_failed_sync_is_a_failed_save(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, "sync")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError):
        storage.save(PACK, DATA)
    assert [*storage.list(FileKind.DATA)] == []


def test_short_writes_go_on_where_they_ended(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:2]))
    storage.save(PACK, DATA)
    assert storage.load(PACK) == DATA


@pytest.mark.parametrize(
    ("number", "kind", "retryable"),
    [
        (errno.EACCES, StorageRefused, False),
        (errno.EROFS, StorageRefused, False),
        (errno.EIO, StorageError, True),
        (errno.ESTALE, StorageError, True),
        (errno.ENAMETOOLONG, StorageError, False),
    ],
)
def test_the_systems_errors_say_whether_to_repeat(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StorageError], retryable: bool
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(kind, match=os.strerror(number)) as caught:
        storage.save(PACK, DATA)
    assert caught.value.retryable is retryable
    assert not caught.value.ambiguous, "what is visible here need not be durable: a retry must write again"


def test_a_bad_sector_is_the_failure_of_one_file(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.EIO, "bad sector")

    storage.save(PACK, DATA)
    monkeypatch.setattr(local, "read_paced", fail)
    with pytest.raises(FileUnreadable, match=r"could not read data/.*Input/output error") as caught:
        storage.load(PACK)
    assert caught.value.retryable


def as_user(uid: int, gid: int, call: Callable[[], object]) -> None:
    """Run `call` in a child process of that user and group, with a umask that hides everything from others."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            os.umask(0o077)
            call()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, f"uid {uid} of group {gid} could not"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become two other users")
def test_two_users_of_one_group_share_a_repository_on_a_claim() -> None:
    """What uid 999's backup stores, uid 1000's prune reads, replaces and deletes; the kubelet gives both the
    fsGroup.
    """

    def make() -> None:
        storage = LocalStorage(root)
        storage.create()
        storage.save(CONFIG, b"config")
        storage.save(PACK, DATA)

    def use() -> None:
        storage = LocalStorage(root)
        assert storage.load(CONFIG) == b"config"
        assert [*storage.list(FileKind.DATA)] == [Listed(PACK.name, len(DATA))]
        assert storage.load(PACK) == DATA
        storage.save(PACK, DATA)
        storage.save(CONFIG, b"config")
        storage.delete(PACK)
        storage.save(PACK, DATA)

    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        root = Path(name) / "claim"
        root.mkdir()
        os.chown(root, 0, 54321)
        root.chmod(0o2770)
        as_user(54999, 54321, make)
        as_user(55000, 54321, use)
        as_user(54999, 54321, use)
        assert {path.stat().st_gid for path in root.rglob("*")} == {54321}
