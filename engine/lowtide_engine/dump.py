"""A file of a snapshot as a stream, or a folder as a tar (pax) or zip archive, without a place to restore to."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import threading
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from typing import IO, TYPE_CHECKING, Literal

from lowtide_engine.errors import Interrupted, RepositoryDamaged
from lowtide_engine.trees import PathMissing, find_node, walk

if TYPE_CHECKING:
    from lowtide_engine._kernel import Node
    from lowtide_engine.repository import IndexedRepository

AHEAD = 4
"""Blobs that are fetched before they are written; a blob has at most 8 MiB."""

_KINDS = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "dev": tarfile.BLKTYPE,
    "chardev": tarfile.CHRTYPE,
    "fifo": tarfile.FIFOTYPE,
}


_FORMATS = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK}
_EARLIEST, _LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2107, 12, 31, tzinfo=UTC)
"""What a zip can say of a time."""


def dump(
    indexed: IndexedRepository,
    root: str,
    path: bytes,
    output: IO[bytes],
    stop: threading.Event,
    *,
    archive: Literal["tar", "zip"] = "tar",
) -> int:
    """Write the file at `path` below the tree `root`, or the folder as an archive; gives the number of files.

    Raises PathMissing, RepositoryDamaged; what was written until then is of no use.
    """
    node = find_node(indexed, root, path)
    if node is not None and node.type == "file":
        for data in _contents(indexed, node.content or [], stop):
            output.write(data)
        output.flush()
        return 1
    tree = root if node is None else node.subtree
    if tree is None:
        raise PathMissing(f"{path.decode(errors='backslashreplace')} is neither a file nor a folder")
    return (_write_zip if archive == "zip" else _write_tar)(indexed, tree, output, stop)


def _write_tar(indexed: IndexedRepository, tree: str, output: IO[bytes], stop: threading.Event) -> int:
    count = 0
    linked: dict[tuple[int, int], str] = {}
    with tarfile.open(
        fileobj=output, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for path, node in walk(indexed, tree):
            if node.type not in _KINDS:
                continue
            _refuse_bad_name(path, node)
            member = _member(path, node)
            first = linked.setdefault((node.device_id, node.inode), member.name) if node.links > 1 else member.name
            if node.type == "file" and first != member.name:
                member.type, member.linkname, member.size = tarfile.LNKTYPE, first, 0
            reads = _Reader(_contents(indexed, node.content or [], stop)) if member.type == tarfile.REGTYPE else None
            archive.addfile(member, reads)
            count += 1
    return count


def _member(path: bytes, node: Node) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path.lstrip(b"/").decode("utf-8", "surrogateescape"))
    member.type = _KINDS[node.type]
    member.mode = node.permissions
    member.uid, member.gid = node.uid, node.gid
    member.uname, member.gname = node.user, node.group
    seconds, nanoseconds = node.mtime
    member.mtime = seconds
    more = {
        f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape") for name, value in node.extended_attributes
    }
    if nanoseconds:
        more["mtime"] = f"{seconds}.{nanoseconds:09}" if seconds >= 0 else f"{seconds + nanoseconds / 1e9:.9f}"
    member.pax_headers = more
    if node.type == "file":
        member.size = node.size
    if node.type == "symlink":
        member.linkname = node.linktarget.decode("utf-8", "surrogateescape")
    if node.type in ("dev", "chardev"):
        member.devmajor, member.devminor = os.major(node.device), os.minor(node.device)
    return member


def _write_zip(indexed: IndexedRepository, tree: str, output: IO[bytes], stop: threading.Event) -> int:
    """Files, folders and symbolic links, without owners, attributes and hard links: all that a zip has."""
    count = 0
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, node in walk(indexed, tree):
            if node.type not in _FORMATS:
                continue
            _refuse_bad_name(path, node)
            member = _zip_member(path, node)
            with archive.open(member, "w") as file:
                if node.type == "symlink":
                    file.write(node.linktarget)
                elif node.type == "file":
                    for data in _contents(indexed, node.content or [], stop):
                        file.write(data)
            count += 1
    return count


def _zip_member(path: bytes, node: Node) -> zipfile.ZipInfo:
    name = path.lstrip(b"/").decode("utf-8", "backslashreplace") + ("/" if node.type == "dir" else "")
    seconds = node.mtime[0]
    first, last = (int(limit.timestamp()) for limit in (_EARLIEST, _LATEST))
    moment = datetime.fromtimestamp(min(max(seconds, first), last), UTC)
    member = zipfile.ZipInfo(name, moment.timetuple()[:6])
    member.create_system = 3  # Unix: the upper half of the attributes is a mode
    member.external_attr = (_FORMATS[node.type] | node.permissions) << 16
    member.compress_type = zipfile.ZIP_DEFLATED if node.type == "file" else zipfile.ZIP_STORED
    member.file_size = node.size
    if -(1 << 31) <= seconds < 1 << 31:
        member.extra = struct.pack("<HHBi", 0x5455, 5, 1, seconds)  # the time to the second, in UTC
    return member


def _refuse_bad_name(path: bytes, node: Node) -> None:
    if node.name in (b"", b".", b"..") or b"/" in node.name or b"\x00" in node.name:
        raise RepositoryDamaged(f"a tree has an entry called {node.name!r} in {path!r}, which no file can be called")


def _contents(indexed: IndexedRepository, blobs: Sequence[str], stop: threading.Event) -> Iterator[bytes]:
    """The blobs' bytes in order, some fetched ahead."""
    if len(blobs) == 1:
        yield indexed.load_blob("data", blobs[0])
        return
    waiting = iter(blobs)
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="dump") as pool:
        try:
            ahead = deque(pool.submit(indexed.load_blob, "data", blob) for blob in islice(waiting, AHEAD))
            while ahead:
                if stop.is_set():
                    raise Interrupted("the dump was stopped by a signal; what was written is not whole")
                data = ahead.popleft().result()
                following = next(waiting, None)
                if following is not None:
                    ahead.append(pool.submit(indexed.load_blob, "data", following))
                yield data
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Reader(io.RawIOBase):
    """A file's contents as something to read from; tarfile asks for as many bytes as the node says it has."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        parts, wanted = [], size if size >= 0 else 1 << 62
        while wanted and self._rest:
            part = self._rest[:wanted]
            parts.append(part)
            wanted -= len(part)
            self._rest = self._rest[len(part) :] or memoryview(next(self._pieces, b""))
        return b"".join(parts)
