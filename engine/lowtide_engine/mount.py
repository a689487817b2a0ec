"""Snapshots as folders of this machine, read-only, by FUSE: for a look at files without restoring them.

Below the mount point are `ids`, `snapshots`, `hosts` and `tags`, as in restic's mount; a link `latest` leads to the
newest. mfusepy is imported when something is mounted: it needs libfuse, which servers and images often lack.
"""

from __future__ import annotations

import errno
import functools
import importlib
import itertools
import os
import stat
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lowtide_engine.errors import EngineError
from lowtide_engine.repository.snapshot import Snapshot
from lowtide_engine.trees import load_tree

if TYPE_CHECKING:
    from lowtide_engine._kernel import Node
    from lowtide_engine.repository import IndexedRepository

    Shelf = dict[str, "Shelf | Snapshot | str"]
    Item = Shelf | Snapshot | str | Node

    Renew = Callable[[], "tuple[IndexedRepository, Sequence[Snapshot]] | None"]
    """What there is now, or None where nothing is new; called from one thread."""

_T = TypeVar("_T")
_BLOBS_KEPT = 8
_TREES_KEPT = 256
_POKE_SECONDS = 0.2
LOOK_AGAIN_SECONDS = 60.0
"""How old what is shown may be: somebody else's snapshots are seen after that, as in restic."""
_TYPES = {
    "file": stat.S_IFREG,
    "dir": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "dev": stat.S_IFBLK,
    "chardev": stat.S_IFCHR,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
}


class MountImpossible(EngineError):
    """This machine can't mount: FUSE or its Python module is missing, or the folder is none."""

    reason = "MountImpossible"
    default_hint = "install libfuse, and mfusepy (pip install 'lowtide[mount]'); /dev/fuse must be there"


def mount(
    indexed: IndexedRepository,
    snapshots: Sequence[Snapshot],
    folder: str,
    stop: threading.Event,
    on_error: Callable[[str], None],
    *,
    renew: Renew = lambda: None,
    allow_other: bool = False,
    default_permissions: bool = True,
    owner_root: bool = False,
) -> None:
    """Mount `snapshots` on `folder`, and serve them until it is unmounted, or `stop` is set; `renew` is asked for newer
    ones while somebody looks. Raises MountImpossible.

    `allow_other` lets other users in, whom the kernel holds to the files' rights with `default_permissions`;
    `owner_root` says that all belongs to root. What can't be read is told to `on_error`, and to who reads as EIO.
    """
    if not os.path.isdir(folder):
        raise MountImpossible(f"{folder} is no folder to mount on", hint="make it before")
    try:
        fuse: Any = importlib.import_module("mfusepy")
    except (ImportError, OSError) as error:
        raise MountImpossible(f"FUSE can't be used: {error}") from error
    where = os.path.realpath(folder)
    served = _Served(Browser(indexed, snapshots, renew), fuse.fuse_exit, stop, on_error, owner_root=owner_root)
    ended = threading.Event()
    threading.Thread(target=_end_when_stopped, args=(where, stop, ended), name="unmount", daemon=True).start()
    try:
        fuse.FUSE(
            served,
            where,
            foreground=True,
            nothreads=True,
            ro=True,
            fsname="lowtide",
            allow_other=allow_other,
            default_permissions=allow_other and default_permissions,
        )
    except RuntimeError as error:
        raise MountImpossible(f"{folder} could not be mounted on: FUSE ended with {error}") from error
    finally:
        ended.set()


def _end_when_stopped(folder: str, stop: threading.Event, ended: threading.Event) -> None:
    """Ask for a name until the mount ends: FUSE looks whether it is to end after each question only."""
    stop.wait()
    for number in itertools.count():
        if ended.wait(_POKE_SECONDS):
            return
        os.path.lexists(os.path.join(folder, f".lowtide stops {number}"))


def shelves(snapshots: Sequence[Snapshot]) -> Shelf:
    """The folders in which snapshots are found. Times are local; a second of the same time gets a number."""
    ids: Shelf = {snapshot.short_id: snapshot for snapshot in snapshots}
    hosts: dict[str, list[Snapshot]] = {}
    tags: dict[str, list[Snapshot]] = {}
    for snapshot in snapshots:
        hosts.setdefault(_name(snapshot.hostname), []).append(snapshot)
        for tag in snapshot.tags:
            tags.setdefault(_name(tag), []).append(snapshot)
    return {
        "ids": ids,
        "snapshots": _by_time(snapshots),
        "hosts": {name: _by_time(found) for name, found in hosts.items()},
        "tags": {name: _by_time(found) for name, found in tags.items()},
    }


def _by_time(snapshots: Sequence[Snapshot]) -> Shelf:
    shelf: Shelf = {}
    newest = ""
    for snapshot in sorted(snapshots, key=lambda one: one.time):
        moment = snapshot.time.datetime().astimezone().isoformat(timespec="seconds").replace("+00:00", "Z")
        numbered = (f"{moment}-{number}" for number in itertools.count(1))
        newest = next(name for name in itertools.chain([moment], numbered) if name not in shelf)
        shelf[newest] = snapshot
    return shelf | ({"latest": newest} if newest else {})


def _name(text: str) -> str:
    """A host or tag as a file name."""
    return "_" if text in ("", ".", "..") else text.replace("/", "_")


class Browser:
    """Finds, lists and reads what is below the mount point. Paths are text with surrogateescape."""

    def __init__(self, indexed: IndexedRepository, snapshots: Sequence[Snapshot], renew: Renew = lambda: None) -> None:
        self._indexed = indexed
        self._shelves = shelves(snapshots)
        self._renew = renew
        self._looked = time.monotonic()
        self._children = functools.lru_cache(_TREES_KEPT)(self._load_children)
        self._blob = functools.lru_cache(_BLOBS_KEPT)(lambda blob: self._indexed.load_blob("data", blob))

    def find(self, path: str) -> Item:
        """What is at `path`: a shelf, a link's target, a snapshot or a node. Raises OSError where nothing is."""
        self._look_again()
        item: Item = self._shelves
        for name in [part for part in path.split("/") if part]:
            children = self.children(item)
            if name not in children:
                raise OSError(errno.ENOENT, path)
            item = children[name]
        return item

    def children(self, item: Item) -> dict[str, Item]:
        """What is in a folder, by name. Raises OSError where it is none."""
        if isinstance(item, dict):
            return {**item}
        if isinstance(item, Snapshot):
            return self._children(item.tree)
        if isinstance(item, str) or item.type != "dir" or item.subtree is None:
            raise OSError(errno.ENOTDIR, "not a folder")
        return self._children(item.subtree)

    def offsets(self, node: Node) -> list[int]:
        """Where each blob of a file begins, and where the last one ends. Raises OSError where one is missing."""
        sizes = [self._indexed.blob_size("data", blob) for blob in node.content or []]
        if None in sizes:
            raise OSError(errno.EIO, "a part of the file is missing")
        return list(itertools.accumulate((size or 0 for size in sizes), initial=0))

    def read(self, node: Node, offsets: Sequence[int], offset: int, size: int) -> bytes:
        """At most `size` bytes of a file from `offset`, fewer at its end only."""
        parts: list[bytes] = []
        end = min(offset + size, offsets[-1])
        while offset < end:
            number = bisect_right(offsets, offset) - 1
            start = offset - offsets[number]
            part = self._blob((node.content or [])[number])[start : start + end - offset]
            if not part:
                raise OSError(errno.EIO, "a part of the file is shorter than the index says")
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _look_again(self) -> None:
        if time.monotonic() - self._looked < LOOK_AGAIN_SECONDS:
            return
        renewed = self._renew()
        self._looked = time.monotonic()
        if renewed is not None:
            self._indexed, snapshots = renewed
            self._shelves = shelves(snapshots)

    def _load_children(self, tree: str) -> dict[str, Item]:
        return {os.fsdecode(node.name): node for node in load_tree(self._indexed, tree)}


class _Served:
    """What mfusepy calls: its operations have these names, and raise OSError."""

    use_ns = True

    def __init__(
        self,
        browser: Browser,
        leave: Callable[[], None],
        stop: threading.Event,
        on_error: Callable[[str], None],
        *,
        owner_root: bool,
    ) -> None:
        self._browser = browser
        self._leave = leave
        self._stop = stop
        self._on_error = on_error
        self._owner_root = owner_root
        self._open: dict[int, tuple[Node, list[int]]] = {}
        self._handles = itertools.count(1)

    def init(self, path: str) -> None:
        """Nothing is to be made ready."""

    def getattr(self, path: str, handle: int | None = None) -> dict[str, int]:
        return self._told(lambda: self._attributes(path))

    def readdir(self, path: str, handle: int) -> list[str]:
        return self._told(lambda: [".", "..", *self._browser.children(self._browser.find(path))])

    def readlink(self, path: str) -> str:
        item = self._told(lambda: self._browser.find(path))
        if isinstance(item, str):
            return item
        if isinstance(item, dict | Snapshot) or item.type != "symlink":
            raise OSError(errno.EINVAL, path)
        return os.fsdecode(item.linktarget)

    def open(self, path: str, flags: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, path)
        node = self._node(path)
        handle = next(self._handles)
        self._open[handle] = (node, self._told(lambda: self._browser.offsets(node)))
        return handle

    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        node, offsets = self._open[handle]
        return self._told(lambda: self._browser.read(node, offsets, offset, size))

    def release(self, path: str, handle: int) -> int:
        self._open.pop(handle, None)
        return 0

    def listxattr(self, path: str) -> list[str]:
        item = self._told(lambda: self._browser.find(path))
        return [] if isinstance(item, dict | Snapshot | str) else [name for name, _ in item.extended_attributes]

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        item = self._told(lambda: self._browser.find(path))
        known = {} if isinstance(item, dict | Snapshot | str) else dict(item.extended_attributes)
        if name not in known:
            raise OSError(errno.ENODATA, path)
        return known[name]

    def _attributes(self, path: str) -> dict[str, int]:
        if self._stop.is_set():
            self._leave()
        item = self._browser.find(path)
        if isinstance(item, str):
            return self._owned({"st_mode": stat.S_IFLNK | 0o777, "st_nlink": 1, "st_size": len(os.fsencode(item))})
        if isinstance(item, dict):
            return self._owned({"st_mode": stat.S_IFDIR | 0o555, "st_nlink": 2})
        if isinstance(item, Snapshot):
            moment = item.time.seconds * 10**9 + item.time.nanoseconds
            times = dict.fromkeys(("st_mtime", "st_atime", "st_ctime"), moment)
            return self._owned({"st_mode": stat.S_IFDIR | 0o555, "st_nlink": 2, **times})
        size = len(item.linktarget) if item.type == "symlink" else item.size
        found = {
            "st_mode": _TYPES.get(item.type, stat.S_IFREG) | item.permissions,
            "st_nlink": item.links or 1,
            "st_size": size,
            "st_blocks": -(-size // 512),
            "st_uid": item.uid,
            "st_gid": item.gid,
            "st_rdev": item.device,
            **{f"st_{which}": at[0] * 10**9 + at[1] for which, at in _times(item)},
        }
        return self._owned(found) if self._owner_root else found

    def _owned(self, attributes: dict[str, int]) -> dict[str, int]:
        uid, gid = (0, 0) if self._owner_root else (os.getuid(), os.getgid())
        return attributes | {"st_uid": uid, "st_gid": gid}

    def _node(self, path: str) -> Node:
        item = self._told(lambda: self._browser.find(path))
        if isinstance(item, dict | Snapshot | str) or item.type != "file":
            raise OSError(errno.EINVAL, path)
        return item

    def _told(self, work: Callable[[], _T]) -> _T:
        """What `work` gives; a failure of the repository is told, and becomes an EIO."""
        try:
            return work()
        except EngineError as error:
            self._on_error(str(error))
            raise OSError(errno.EIO, error.message) from error


def _times(node: Node) -> list[tuple[str, tuple[int, int]]]:
    return [("mtime", node.mtime), ("atime", node.atime), ("ctime", node.ctime)]
