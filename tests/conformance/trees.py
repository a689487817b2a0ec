"""A tree with every kind of file, and a comparer that knows neither program: it asks the operating system only."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_USER, _GROUP = 2, 8
ODD_NAMES = (
    b"not utf-8 \xff\xfe",
    b"new\nline",
    b'quote " and \\ back',
    "ümläut".encode(),
    "zero\u200bwidth".encode(),
    b"a<b>&c",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What one file is, as far as a backup must bring it back."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    size: int = 0
    digest: str = ""
    target: bytes = b""
    device: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    same_file_as: bytes = b""


def describe(root: Path, *, times_of_folders: bool = True) -> dict[bytes, Entry]:
    """Every file below `root` by its relative path; hard links name the first path of their file, in sorted order."""
    first_path: dict[tuple[int, int], bytes] = {}
    found = {}
    for relative, path in sorted(_walk(os.fsencode(root), b"")):
        found[relative] = _describe_one(relative, path, first_path, times_of_folders=times_of_folders)
    return found


def differences(expected: dict[bytes, Entry], actual: dict[bytes, Entry]) -> list[str]:
    """One line for each path that is missing, too many or different; empty where both are the same."""
    lines = [f"missing: {path!r}" for path in sorted(expected.keys() - actual.keys())]
    lines += [f"too many: {path!r}" for path in sorted(actual.keys() - expected.keys())]
    for path in sorted(expected.keys() & actual.keys()):
        for name in Entry.__dataclass_fields__:
            want, have = getattr(expected[path], name), getattr(actual[path], name)
            if want != have:
                lines.append(f"{path!r}: {name} is {have!r}, not {want!r}")
    return lines


def make_plain_tree(root: Path, *, seed: int = 1, large: int = 6 * 1024 * 1024) -> None:
    """Folders, empty files, small files, one file of several chunks, a run of zeros; nothing that needs privileges."""
    source = random.Random(seed)
    root.mkdir(parents=True, exist_ok=True)
    (root / "empty").touch()
    (root / "empty folder").mkdir()
    (root / "large").write_bytes(source.randbytes(large))
    (root / "zeros").write_bytes(bytes(3 * 1024 * 1024))
    for number in range(3):
        folder = root / f"folder {number}" / "deeper"
        folder.mkdir(parents=True)
        for index in range(10):
            (folder / f"file {index:02}.txt").write_bytes(source.randbytes(source.randrange(1, 20_000)))
    (root / "link").symlink_to("folder 0/deeper")
    (root / "dangling").symlink_to("nowhere")
    os.utime(root / "large", ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321))


def make_full_tree(root: Path) -> None:
    """A plain tree, and what only root can make: devices, FIFOs, xattrs, ACLs, owners, setuid, sparse, odd names."""
    make_plain_tree(root)
    (root / "hard 1").write_bytes(b"one file, three names\n" * 1000)
    os.link(root / "hard 1", root / "hard 2")
    os.link(root / "hard 1", root / "folder 0" / "hard 3")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "loop", stat.S_IFBLK | 0o660, os.makedev(7, 0))
    with open(root / "sparse", "wb") as file:
        file.write(b"head")
        file.seek(40 * 1024 * 1024)
        file.write(b"tail")
    for name in ODD_NAMES:
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"content of " + name)
    os.symlink(b"target \xff\xfe not utf-8", os.fsencode(root) + b"/odd link")
    for name, mode in (("setuid", 0o4755), ("setgid", 0o2755), ("nothing", 0o000), ("sticky", 0o1644)):
        (root / name).write_bytes(b"#!/bin/sh\n")
        os.chown(root / name, 1234, 2345)
        os.chmod(root / name, mode)
    (root / "sticky folder").mkdir()
    os.chmod(root / "sticky folder", 0o3777)
    os.setxattr(root / "large", "user.colour", b"blue\x00green")
    os.setxattr(root / "empty folder", "user.kind", b"")
    os.setxattr(root / "empty", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.setxattr(root / "zeros", "system.posix_acl_access", _acl(6, (_USER, 6, 4321), (_GROUP, 4, 999)))
    os.setxattr(root / "folder 1", "system.posix_acl_default", _acl(7, (_USER, 7, 4321)))
    os.utime(root / "odd link", ns=(1, 999_999_999), follow_symlinks=False)
    os.utime(root / "empty", ns=(0, -1_500_000_000))
    os.utime(root / "folder 2", ns=(1_111_111_111_000_000_001, 1_222_222_222_000_000_100))


def _acl(mask: int, *named: tuple[int, int, int]) -> bytes:
    """The kernel's form of an ACL (linux/posix_acl_xattr.h): owner rw, the named entries, group r, mask, others r."""
    none = 0xFFFFFFFF
    users = [entry for entry in named if entry[0] == _USER]
    groups = [entry for entry in named if entry[0] == _GROUP]
    entries = [(1, 6, none), *users, (4, 4, none), *groups, (16, mask, none), (32, 4, none)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _walk(folder: bytes, relative: bytes) -> Iterator[tuple[bytes, bytes]]:
    yield relative or b".", folder
    for entry in os.scandir(folder):
        below = relative + b"/" + entry.name if relative else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, below)
        else:
            yield below, entry.path


def _describe_one(
    relative: bytes, path: bytes, first_path: dict[tuple[int, int], bytes], *, times_of_folders: bool
) -> Entry:
    info = os.lstat(path)
    kind = stat.S_IFMT(info.st_mode)
    is_file = kind == stat.S_IFREG
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
    }
    same = b""
    if is_file and info.st_nlink > 1:
        same = first_path.setdefault((info.st_dev, info.st_ino), relative)
    return Entry(
        kind=stat.filemode(kind)[0],
        mode=stat.S_IMODE(info.st_mode),
        owner=(info.st_uid, info.st_gid),
        mtime_ns=info.st_mtime_ns if times_of_folders or kind != stat.S_IFDIR else 0,
        size=info.st_size if is_file else 0,
        digest=_digest(path) if is_file else "",
        target=os.readlink(path) if kind == stat.S_IFLNK else b"",
        device=info.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0,
        xattrs=xattrs,
        same_file_as=same,
    )


def _digest(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
