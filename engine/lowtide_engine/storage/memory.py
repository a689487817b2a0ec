"""Files in this process's memory: for tests, and for trying things out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lowtide_engine.errors import FileMissing, FileShort
from lowtide_engine.storage.base import File, FileKind, Listed, check_range

if TYPE_CHECKING:
    from typing_extensions import Buffer


class MemoryStorage:
    """A `Storage` that is gone with its process. `name` only tells several apart in messages."""

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self._files: dict[File, bytes] = {}
        self._guard = threading.Lock()

    @property
    def location(self) -> str:
        return f"memory:{self._name}"

    @property
    def connections(self) -> int:
        return 2

    def create(self) -> None:
        pass

    def save(self, file: File, data: Buffer) -> None:
        copy = bytes(data)
        with self._guard:
            self._files[file] = copy

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        data = self._get(file)
        if offset + (length or 0) > len(data):
            raise FileShort(f"{file} in {self.location} has {len(data)} bytes, asked for {length} from {offset}")
        return data[offset:] if length is None else data[offset : offset + length]

    def stat(self, file: File) -> int:
        return len(self._get(file))

    def list(self, kind: FileKind) -> Iterator[Listed]:
        with self._guard:
            listed = [Listed(file.name, len(data)) for file, data in self._files.items() if file.kind is kind]
        return iter([] if kind is FileKind.CONFIG else listed)

    def delete(self, file: File) -> None:
        with self._guard:
            if self._files.pop(file, None) is None:
                raise FileMissing(f"{file} is not in {self.location}")

    def close(self) -> None:
        pass

    def _get(self, file: File) -> bytes:
        with self._guard:
            try:
                return self._files[file]
            except KeyError:
                raise FileMissing(f"{file} is not in {self.location}") from None
