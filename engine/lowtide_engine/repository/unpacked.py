"""Files that hold one JSON document: index, snapshots, locks (restic-format 1.6). Sealed; in version 2 compressed
inside the seal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from lowtide_engine.errors import EngineError, RepositoryDamaged
from lowtide_engine.repository.sealing import OVERHEAD, MasterKey
from lowtide_engine.storage import File, FileKind, Storage

if TYPE_CHECKING:
    from typing_extensions import Buffer

LIMIT = 512 * 1024 * 1024
"""The largest unpacked file that is read, sealed or decompressed, in bytes."""

_COMPRESSED = 2


class UnpackedFiles:
    """Seals, stores, loads and unseals unpacked files of one repository.

    `version` decides whether what is written is compressed; both forms are read in either version. `verify` unseals and
    decompresses again what was sealed, before it leaves.
    """

    def __init__(self, storage: Storage, master: MasterKey, version: int, *, verify: bool = True) -> None:
        self._storage = storage
        self._master = master
        self._version = version
        self._verify = verify

    def save(self, kind: FileKind, plaintext: bytes) -> str:
        """Store a document; gives its name. Durable when it returns."""
        sealed = self.encode(plaintext)
        name = hashlib.sha256(sealed).hexdigest()
        self._storage.save(File(kind, name), sealed)
        return name

    def load(self, kind: FileKind, name: str, *, unseal: Callable[[Buffer], bytes] | None = None) -> bytes:
        """A document's plaintext; `unseal` as in `decode`.

        Raises FileMissing, or RepositoryDamaged where it doesn't hash to its name (asked for twice), unseal or
        decompress.
        """
        file = File(kind, name)
        sealed = self._storage.load(file)
        if hashlib.sha256(sealed).hexdigest() != name:
            sealed = self._storage.load(file)
            if hashlib.sha256(sealed).hexdigest() != name:
                raise RepositoryDamaged(f"{file} in {self._storage.location} doesn't hash to its name")
        return self.decode(file, sealed, unseal)

    def encode(self, plaintext: bytes) -> bytes:
        """The sealed bytes of a document."""
        if len(plaintext) > LIMIT:
            raise EngineError(f"a document of {len(plaintext)} bytes is longer than any reader would take")
        inner = plaintext
        if self._version >= 2:
            from lowtide_engine._kernel import zstd_compress

            inner = bytes([_COMPRESSED]) + zstd_compress(plaintext)
        sealed = self._master.seal(inner)
        if self._verify and _expand(self._master.unseal(sealed), "what was just sealed") != plaintext:
            raise EngineError("a document that was just sealed reads differently: memory or processor are faulty")
        return sealed

    def decode(self, file: File, sealed: Buffer, unseal: Callable[[Buffer], bytes] | None = None) -> bytes:
        """The plaintext of sealed bytes; `unseal` may be the kernel's, for large ones."""
        if memoryview(sealed).nbytes > LIMIT + OVERHEAD:
            raise RepositoryDamaged(f"{file} has {memoryview(sealed).nbytes} bytes, no such file is that long")
        try:
            plaintext = (unseal or self._master.unseal)(sealed)
        except RepositoryDamaged as error:
            raise RepositoryDamaged(f"{file} can't be unsealed: {error.message}") from None
        return _expand(plaintext, str(file))


def _expand(inner: bytes, what: str) -> bytes:
    """Undo the version's prefix: 0x02 and a zstd frame, or JSON as it is; empty stays empty."""
    if not inner or inner[:1] in (b"{", b"["):
        return inner
    if inner[0] != _COMPRESSED:
        raise RepositoryDamaged(f"{what} begins with byte {inner[0]:#04x}, which no version writes")
    from lowtide_engine._kernel import KernelError, zstd_decompress

    try:
        return zstd_decompress(memoryview(inner)[1:], LIMIT)
    except KernelError as error:
        raise RepositoryDamaged(f"{what} doesn't decompress: {error}") from None
