"""Runs of the kernel driven from a folder or from memory, and repositories made blob by blob."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lowtide_engine import _kernel as kernel

Read = Callable[[str, int, int], bytes]
"""Pack, offset, length: the bytes, or OSError."""

ZERO = "1970-01-01T00:00:00Z"


@dataclass
class Outcome:
    """All that a run said."""

    summary: dict[str, int] = field(default_factory=dict)
    errors: list[kernel.ItemError] = field(default_factory=list)
    done: list[tuple[bytes, str]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    fetched: list[tuple[str, int, int]] = field(default_factory=list)

    def faults(self) -> list[tuple[bytes, str]]:
        """The failures, without notices: path and during."""
        return [(e.path, e.during) for e in self.errors if not e.notice]

    def actions(self) -> dict[bytes, str]:
        return dict(self.done)


def drive(run: kernel.Run, read: Read) -> Outcome:
    """Answer all that a run asks for until it ends; its failure is raised."""
    outcome = Outcome()
    while True:
        event = run.next(60)
        match event:
            case kernel.Fetch():
                outcome.fetched.append((event.pack, event.offset, event.length))
                try:
                    data = read(event.pack, event.offset, event.length)
                except OSError as error:
                    run.refuse(event.ticket, str(error))
                else:
                    run.provide(event.ticket, data)
            case kernel.ItemError():
                outcome.errors.append(event)
            case kernel.ItemDone():
                outcome.done.append((event.path, event.action))
            case kernel.Problem():
                outcome.problems.append((event.kind, event.message))
            case kernel.Finished():
                outcome.summary = event.summary
                return outcome
            case _:
                raise AssertionError(f"the run said {event!r}")


def reader_of(folder: Path) -> Read:
    """Reads pieces of packs of a local repository."""

    def read(pack: str, offset: int, length: int) -> bytes:
        with (folder / "data" / pack[:2] / pack).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    return read


class Made:
    """A repository in memory, of blobs put in one by one; `seal` writes what came since into one pack."""

    def __init__(self) -> None:
        self.key = kernel.Key(bytes(range(32)), b"k" * 16, b"r" * 16)
        self.index = kernel.Index()
        self.packs: dict[str, bytes] = {}
        self._open: dict[str, list[tuple[str, bytes, int]]] = {"data": [], "tree": []}

    def blob(self, kind: str, plain: bytes, *, compress: bool = False) -> str:
        """Put a blob in; its id."""
        name = kernel.sha256(plain)
        sealed = self.key.seal(kernel.zstd_compress(plain) if compress else plain)
        self._open[kind].append((name, sealed, len(plain) if compress else 0))
        return name

    def tree(self, *nodes: Mapping[str, Any]) -> str:
        """Put a tree in, of nodes as they are: nothing about them is checked."""
        return self.blob("tree", json.dumps({"nodes": list(nodes)}).encode() + b"\n")

    def seal(self) -> None:
        for kind, blobs in self._open.items():
            if not blobs:
                continue
            pack = b"".join(sealed for _, sealed, _ in blobs)
            name = kernel.sha256(pack)
            self.packs[name] = pack
            entries, offset = [], 0
            for blob, sealed, plain in blobs:
                entry = {"id": blob, "type": kind, "offset": offset, "length": len(sealed)}
                entries.append(entry | ({"uncompressed_length": plain} if plain else {}))
                offset += len(sealed)
            self.add_index({"id": name, "blobs": entries})
            blobs.clear()

    def add_index(self, *packs: Mapping[str, Any]) -> None:
        """Take in an index file, which may lie."""
        text = json.dumps({"packs": list(packs)}).encode()
        self.index.add(kernel.sha256(text), text)

    def read(self, pack: str, offset: int, length: int) -> bytes:
        if pack not in self.packs:
            raise OSError("there is no such pack")
        return self.packs[pack][offset : offset + length]

    def restore(self, tree: str, target: Path, **options: Any) -> Outcome:
        self.seal()
        options.setdefault("verbose", True)
        return drive(kernel.Restore(self.key, self.index, tree=tree, target=bytes(target), **options), self.read)

    def check(self, *roots: str) -> tuple[Outcome, kernel.Check]:
        self.seal()
        check = kernel.Check(self.key, self.index, roots=list(roots))
        return drive(check, self.read), check

    def file(self, name: str, *parts: bytes, compress: bool = False, **more: Any) -> dict[str, Any]:
        """A file node and its blobs."""
        content = [self.blob("data", part, compress=compress) for part in parts]
        return node(name, "file", mode=0o644, size=sum(map(len, parts)), links=1, content=content) | more


def node(name: str, kind: str, **more: Any) -> dict[str, Any]:
    """A node owned by whoever runs the test, from 1970."""
    times = {"mtime": ZERO, "atime": ZERO, "ctime": ZERO}
    return {"name": name, "type": kind, **times, "uid": os.geteuid(), "gid": os.getegid(), "content": None} | more


def folder(name: str, subtree: str, **more: Any) -> dict[str, Any]:
    return node(name, "dir", mode=0o755 | 1 << 31, subtree=subtree) | more


def link(name: str, target: str, **more: Any) -> dict[str, Any]:
    return node(name, "symlink", mode=0o777 | 1 << 27, linktarget=target) | more
