"""Trees that the kernel's backup writes are, byte for byte, those that restic writes for the same folder."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from lowtide_engine import _kernel as kernel
from tests.unit.kernel.driver import PASSWORD, backup, drive, new_repository
from tests.unit.kernel.plain_repository import PlainRepository

pytestmark = pytest.mark.oracle


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets are relative mostly: an absolute one has the folders above it, which other programs change."""
    monkeypatch.chdir(tmp_path)


def write(path: Path, data: bytes, mtime_ns: int = 1_600_000_000_123_456_789) -> None:
    path.write_bytes(data)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def everything(folder: Path) -> None:
    """One of each thing that a file system has."""
    noise = random.Random(1)
    folder.mkdir()
    write(folder / "empty", b"")
    write(folder / "small", b"text\n")
    write(folder / "large", noise.randbytes(9 << 20))
    write(folder / "zeros", bytes(3 << 20))
    write(folder / "repetitive", b"\x01" * (10 << 20))
    write(folder / "old", b"x", mtime_ns=-1_000_000_001)
    write(folder / "even second", b"x", mtime_ns=1_500_000_000_000_000_000)
    with (folder / "sparse").open("wb") as file:
        file.write(noise.randbytes(700_000))
        file.seek(40 << 20)
        file.write(b"end")
        file.truncate(60 << 20)
    for name in [
        b"\xff\xfe not utf-8",
        b"new\nline",
        b'quote"<&>\\',
        "\u00a0\u200b\u2028é漢".encode(),
        b"tab\t\x01\x7f",
    ]:
        (folder / os.fsdecode(name)).write_bytes(name)
    os.link(folder / "small", folder / "hard link")
    (folder / "symlink").symlink_to("small")
    (folder / "dangling").symlink_to(os.fsdecode(b"nowhere/\xff"))
    os.mkfifo(folder / "fifo", 0o640)
    deep = folder
    for level in range(30):
        deep /= f"level {level}"
    deep.mkdir(parents=True)
    write(deep / "file", b"deep")
    (folder / "empty folder").mkdir()
    (folder / "many").mkdir()
    for number in range(300):
        write(folder / "many" / f"{number:03}-{'n' * (number % 90)}", noise.randbytes(number * 7))
    for name, mode in [("setuid", 0o4755), ("setgid", 0o2755), ("sticky", 0o1644), ("none", 0)]:
        write(folder / name, b"x")
        (folder / name).chmod(mode)
    (folder / "sticky folder").mkdir()
    (folder / "sticky folder").chmod(0o1777)
    for path, name, value in [
        ("small", "user.b", b"\x00\xff"),
        ("small", "user.a", b""),
        ("many", "user.dir", b"v" * 3000),
    ]:
        os.setxattr(folder / path, name, value)
    if os.geteuid() == 0:
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(folder / "loop", stat.S_IFBLK | 0o660, os.makedev(7, 200))
        write(folder / "owned", b"x")
        os.chown(folder / "owned", 12345, 54321)
        os.setxattr(folder / "large", "trusted.t", b"1", follow_symlinks=False)
        os.setxattr(folder / "symlink", "trusted.link", b"1", follow_symlinks=False)
        # An access control list: user 1000 may read.
        acl = bytes.fromhex("0200000001000600ffffffff02000400e803000004000400ffffffff10000400ffffffff20000400ffffffff")
        os.setxattr(folder / "empty", "system.posix_acl_access", acl)


def test_first_backup_and_the_next_ones(tmp_path: Path) -> None:
    source = tmp_path / "source"
    everything(source)
    restic, repository = new_repository(tmp_path / "theirs")
    # A copy, because the chunks depend on the repository's polynomial.
    shutil.copytree(tmp_path / "theirs", tmp_path / "ours")
    own = PlainRepository(tmp_path / "ours", PASSWORD)

    expected = restic.backup("source")
    first = drive(backup(own, b"source"), own)
    assert first.failures() == []
    assert first.root == expected
    assert first.summary["files_new"] == first.summary["total_files_processed"] > 300

    # Nothing changed: nothing is read, nothing is stored.
    again = drive(backup(own, b"source", parent=first.root, verbose=True), own)
    assert again.root == expected
    assert again.packs == {}
    assert again.summary["files_unmodified"] == first.summary["files_new"]
    assert again.summary["data_added"] == 0
    assert {d.action for d in again.done} == {"unmodified"}

    # On top of restic's snapshot, too.
    assert drive(backup(repository, b"source", parent=expected), repository).packs == {}

    with (source / "large").open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"changed")
    (source / "small").unlink()
    write(source / "new", b"new")
    (source / "many").rename(source / "renamed")
    expected = restic.backup("source")
    changed = drive(backup(own, b"source", parent=first.root), own)
    assert changed.root == expected
    assert changed.summary["files_changed"] >= 1
    assert changed.summary["data_blobs"] <= 3


@pytest.mark.parametrize("options", [{"compression": "off"}, {"compression": "max"}, {"verify": False, "readers": 1}])
def test_options_do_not_change_the_trees(options: dict[str, object], tmp_path: Path) -> None:
    source = tmp_path / "source"
    everything(source)
    restic, own = new_repository(tmp_path / "ours")
    ended = drive(backup(own, b"source", **options), own)
    restic("check", "--read-data")
    assert restic.backup("source") == ended.root


def test_version_1_stores_nothing_compressed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    everything(source)
    restic, own = new_repository(tmp_path / "ours", version=1)
    run = backup(own, b"source")
    packs: dict[str, bytes] = {}
    while not isinstance(event := run.next(60), kernel.Finished):
        if isinstance(event, kernel.PackReady):
            packs[event.pack] = bytes(event.data)
            run.pack_stored(event.pack)
        elif isinstance(event, kernel.IndexReady):
            assert b"uncompressed_length" not in event.json
            run.index_stored(event.ticket)
    for data in packs.values():
        header = int.from_bytes(data[-4:], "little")
        assert all(e.uncompressed_length == 0 for e in kernel.read_pack_header(own.key, data[-4 - header : -4]))
    assert event.root == restic.backup("source")


def tree_at(repository: PlainRepository, root: str, path: Path) -> list[tuple[bytes, str | None, list[str] | None]]:
    """Names, subtrees and contents of a folder in a snapshot."""
    index = repository.index()
    for name in [*path.parts[1:], None]:
        (place, *_) = index.locate("tree", root)
        sealed = repository.pack(place.pack).read_bytes()[place.offset : place.offset + place.length]
        nodes = kernel.decode_tree(kernel.open_blob(repository.key, sealed, root, place.uncompressed_length))
        if name is not None:
            (subtree,) = [n.subtree for n in nodes if n.name == os.fsencode(name)]
            assert subtree is not None
            root = subtree
    return [(n.name, n.subtree, n.content) for n in nodes]


@pytest.fixture(name="work")
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in ["work/a/x", "work/b/c/y", "work/d", "above/z"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / path, path.encode())
    work = tmp_path / "work"
    (work / "link").symlink_to("a")
    monkeypatch.chdir(work)
    return work


@pytest.mark.parametrize(
    "targets",
    [
        ["."],
        ["a"],
        ["a", "b/c"],
        ["./a/", "../above"],
        ["../above/z", "b"],
        ["link"],
        ["link/x"],
        ["a", "../work/a"],
        ["../work", "../work/a/x"],
        ["a/..", "d"],
        ["b", "b/c"],
    ],
    ids=" ".join,
)
def test_relative_targets(targets: list[str], work: Path) -> None:
    restic, own = new_repository(work.parent / "repository")
    ours = drive(backup(own, *[os.fsencode(t) for t in targets]), own)
    assert ours.failures() == []
    assert ours.root == restic.backup(*targets, cwd=work)


@pytest.mark.parametrize("below", [["a"], ["a", "d"], ["", "a/x"], ["b/c/y"]], ids=" ".join)
def test_absolute_targets_have_the_folders_above_them(below: list[str], work: Path) -> None:
    restic, own = new_repository(work.parent / "repository")
    targets = [str(work / b) for b in below]
    ours = drive(backup(own, *[os.fsencode(t) for t in targets]), own)
    expected = restic.backup(*targets)
    assert tree_at(own, ours.root, work) == tree_at(own, expected, work) != []


def test_a_target_and_the_same_name_elsewhere(work: Path) -> None:
    restic, own = new_repository(work.parent / "repository")
    ours = drive(backup(own, b"a", os.fsencode(work / "a")), own)
    expected = restic.backup("a", str(work / "a"))
    assert tree_at(own, ours.root, Path("/a")) == tree_at(own, expected, Path("/a")) != []


def test_a_target_that_is_not_there_is_told_by_name(work: Path) -> None:
    _, own = new_repository(work.parent / "repository")
    ended = drive(backup(own, b"a", b"missing"), own)
    assert [(e.path, e.during) for e in ended.failures()] == [(os.fsencode(work / "missing"), "stat")]
    assert ended.summary["errors"] == 1
    with pytest.raises(kernel.KernelError, match="nothing was found to back up"):
        drive(backup(own, b"missing"), own)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--exclude", "*.tmp"], {"excludes": [b"*.tmp"]}),
        (["--exclude", "sub/*", "--exclude", "!sub/keep.txt"], {"excludes": [b"sub/*", b"!sub/keep.txt"]}),
        (["--iexclude", "KEEP*"], {"iexcludes": [b"KEEP*"]}),
        (["--exclude-caches"], {"exclude_caches": True}),
        (["--exclude-if-present", ".nobackup"], {"exclude_if_present": [(b".nobackup", b"")]}),
        (["--exclude-if-present", ".nobackup:yes"], {"exclude_if_present": [(b".nobackup", b"yes")]}),
        (["--exclude-larger-than", "1k"], {"exclude_larger_than": 1024}),
        (["--one-file-system"], {"one_file_system": True}),
        (["--with-atime"], {"with_atime": True}),
    ],
)
def test_what_is_left_out(arguments: list[str], options: dict[str, object], tmp_path: Path) -> None:
    source = tmp_path / "source"
    for path, data in [
        ("sub/keep.txt", b"k"),
        ("sub/other.txt", b"o"),
        ("a.tmp", b"t"),
        ("sub/deep/b.tmp", b"t"),
        ("cache/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\nrest"),
        ("cache/data", b"d"),
        ("not a cache/CACHEDIR.TAG", b"Signature: other"),
        ("not a cache/data", b"d"),
        ("tagged/.nobackup", b"yes, leave it"),
        ("tagged/x/y", b"y"),
        ("tagged no/.nobackup", b"no"),
        ("tagged no/y", b"y"),
        ("big", bytes(1025)),
        ("not so big", bytes(1024)),
    ]:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        write(source / path, data)
    restic, own = new_repository(tmp_path / "repository")
    # The first reading of a folder sets its access time, those after it do not.
    list(source.rglob("*"))
    ours = drive(backup(own, b"source", **options), own)
    assert ours.root == restic.backup("source", *arguments)
    assert ours.failures() == []


@pytest.mark.parametrize(
    ("targets", "arguments", "options"),
    [
        (["data"], ["--exclude-if-present", ".git"], {"exclude_if_present": [(b".git", b"")]}),
        (["large"], ["--exclude-larger-than", "1k"], {"exclude_larger_than": 1024}),
        (
            ["data", "large"],
            ["--exclude", "data", "--iexclude", "large"],
            {"excludes": [b"data"], "iexcludes": [b"large"]},
        ),
        (["data", "data/large"], ["--exclude-larger-than", "1k"], {"exclude_larger_than": 1024}),
        (["."], ["--exclude-if-present", ".git"], {"exclude_if_present": [(b".git", b"")]}),
        (["."], ["--exclude-larger-than", "1k"], {"exclude_larger_than": 1024}),
    ],
    ids=str,
)
def test_what_is_named_is_never_left_out(
    targets: list[str],
    arguments: list[str],
    options: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    for path in ("data/file", "data/large", "large", ".git/config"):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        write(home / path, bytes(2000) if path.endswith("large") else b"x")
    restic, own = new_repository(tmp_path / "repository")
    monkeypatch.chdir(home)
    ours = drive(backup(own, *(os.fsencode(target) for target in targets), **options), own)
    assert ours.root == restic.backup(*targets, *arguments)
    assert ours.failures() == []


def test_a_socket_is_skipped_with_a_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    write(source / "file", b"x")
    restic, own = new_repository(tmp_path / "repository")
    monkeypatch.chdir(source)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        monkeypatch.chdir(tmp_path)
        ended = drive(backup(own, b"source"), own)
        assert ended.root == restic.backup("source")
    assert [(e.path, e.notice) for e in ended.errors] == [(os.fsencode(source / "socket"), True)]


@pytest.mark.parametrize("version", [1, 2])
def test_a_folder_whose_tree_fits_in_no_buffer(version: int, tmp_path: Path) -> None:
    """In version 1 the tree is longer than a pack of trees; in version 2 it is compressed while it is written."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(25_000):
        (source / f"{number}").touch()
    restic, own = new_repository(tmp_path / "repository", version=version)
    kinds: dict[str, int] = {}
    run = backup(own, b"source", index_packs=1)
    while not isinstance(event := run.next(60), kernel.Finished):
        match event:
            case kernel.PackReady():
                own.pack(event.pack).parent.mkdir(exist_ok=True)
                own.pack(event.pack).write_bytes(event.data)
                kinds[event.pack] = len(memoryview(event.data))
                run.pack_stored(event.pack)
            case kernel.IndexReady():
                sealed = own.key.seal(event.json if version == 1 else b"\x02" + kernel.zstd_compress(event.json))
                (own.folder / "index" / hashlib.sha256(sealed).hexdigest()).write_bytes(sealed)
                run.index_stored(event.ticket)
    assert event.root == restic.backup("source")
    assert (max(kinds.values()) > 5 << 20) is (version == 1)
    restic("check", "--read-data")
    again = drive(backup(own, b"source", parent=event.root), own)
    assert again.packs == {}


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/St_Johns"])
def test_times_keep_the_zone_of_the_parent(zone: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    everything(source)
    restic, own = new_repository(tmp_path / "repository")
    expected = restic.backup("source", zone=zone)
    ended = drive(backup(own, b"source", parent=expected), own)
    assert ended.root == expected
    assert ended.packs == {}
    (source / "small").write_bytes(b"changed")
    changed = drive(backup(own, b"source", parent=expected), own)
    assert changed.summary["data_blobs"] == 1
    assert changed.summary["tree_blobs"] == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize(
    ("working", "targets"),
    [("", ["source"]), ("source", ["."]), ("source/folder", [".."]), ("", ["source", "source/mounted/folder"])],
    ids=str,
)
def test_other_file_systems_are_left_out_but_for_their_mount_points(
    working: str, targets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "mounted").mkdir(parents=True)
    write(source / "file", b"x")
    if subprocess.run(
        ["mount", "-t", "tmpfs", "none", source / "mounted"], capture_output=True, check=False
    ).returncode:
        pytest.skip("this place does not allow mounts")
    try:
        (source / "mounted" / "folder").mkdir()
        write(source / "mounted" / "file", b"x")
        write(source / "mounted" / "folder" / "file", b"x")
        restic, own = new_repository(tmp_path / "repository")
        monkeypatch.chdir(tmp_path / working)
        for options, arguments in [({"one_file_system": True}, ["--one-file-system"]), ({}, [])]:
            ours = drive(backup(own, *map(os.fsencode, targets), **options), own)
            assert ours.root == restic.backup(*targets, *arguments)
    finally:
        subprocess.run(["umount", source / "mounted"], check=True)
