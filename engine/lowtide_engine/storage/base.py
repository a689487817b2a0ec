"""Where a repository's files live: the five-verb interface that local, S3 and every later storage implements.

The repository writes each file once, under the SHA-256 of its bytes, and never changes it; only `config` has a fixed
name. So a storage needs no append, no rename, no metadata. tests/contract is the executable form of what stands here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ID = re.compile(r"[0-9a-f]{64}")


class FileKind(StrEnum):
    """The kinds of files in a repository; the value is the folder's name (restic-format 1.1)."""

    CONFIG = "config"
    KEY = "keys"
    LOCK = "locks"
    SNAPSHOT = "snapshots"
    INDEX = "index"
    DATA = "data"


def is_id(name: str) -> bool:
    """Whether `name` is 64 lower-case hex digits: storages list nothing else."""
    return _ID.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class File:
    """One file's kind and name: 64 lower-case hex digits, or "" for the config. Anything else is a ValueError: a
    name can't escape.
    """

    kind: FileKind
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind is FileKind.CONFIG:
            if self.name:
                raise ValueError(f"the config has no name, not {self.name!r}")
        elif not is_id(self.name):
            raise ValueError(f"no file of kind {self.kind} can be called {self.name!r}")

    @property
    def path(self) -> str:
        """The path below the repository's root, in restic's default layout: data/<first two digits>/<name>."""
        match self.kind:
            case FileKind.CONFIG:
                return "config"
            case FileKind.DATA:
                return f"data/{self.name[:2]}/{self.name}"
            case _:
                return f"{self.kind}/{self.name}"

    def __str__(self) -> str:
        return self.path


CONFIG = File(FileKind.CONFIG)


class Listed(NamedTuple):
    """One file of a listing: its name and its size in bytes."""

    name: str
    size: int


class Storage(Protocol):
    """A place for files. Every method may be called from several threads at once, up to `connections` usefully.

    Errors are `StorageError`s: `FileMissing`, `FileShort`, `FileUnreadable`, `StorageRefused`, `StorageFull`, or a
    plain one; `retryable` says whether a repetition may help. A storage itself doesn't retry: `Retrying` does, around
    any of them.
    """

    @property
    def location(self) -> str:
        """Where this is, as a person would type it, without credentials: safe to print."""

    @property
    def connections(self) -> int:
        """How many calls at once make it faster, and no more."""

    def create(self) -> None:
        """Make ready for a new repository: folders, a bucket. Keeps what is there; repeating it does nothing."""

    def save(self, file: File, data: Buffer) -> None:
        """Store the whole file.

        When it returns the file is durable and listed. When it fails the file is either absent or complete, never in
        parts under its name. Safe to repeat with the same bytes. `data` may be any contiguous buffer, is not kept, and
        must not change meanwhile.
        """

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes from `offset` (never negative), exactly `length` of them, or all to the end where it is None.

        Raises `FileMissing`; `FileShort` where the file ends before `offset + length`, rather than giving fewer bytes;
        `FileUnreadable` where it is known that it is this file's failure.
        """

    def stat(self, file: File) -> int:
        """The size in bytes; raises `FileMissing`."""

    def list(self, kind: FileKind) -> Iterator[Listed]:
        """All files of a kind, in no order, each once, without temporary files and anything else that isn't named
        by an id.

        Lists every file whose save returned before the call. A folder that is missing is empty. The config is not
        listed: stat it.
        """

    def delete(self, file: File) -> None:
        """Remove a file, durably. Raises `FileMissing` or does nothing where there is none."""

    def close(self) -> None:
        """Give back connections. Idempotent; nothing may be called afterwards."""


def check_range(offset: int, length: int | None) -> None:
    """Refuse a negative offset or length: a programming error, hence a ValueError."""
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"a range starts at 0 or later and is not negative: offset {offset}, length {length}")
