"""A repository folder read by the functions of the kernel alone: the least that its tests need."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from lowtide_engine import _kernel as kernel

FIXTURES = Path(__file__).parents[4] / "shared" / "fixtures"


def unpack(name: str, into: Path) -> Path:
    """The fixture's single folder, unpacked below `into`; skips where there are no fixtures."""
    archive = FIXTURES / name
    if not archive.exists():
        pytest.skip(f"the fixture {name} is not next to the checkout")
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="tar")
    (folder,) = into.iterdir()
    return folder


class PlainRepository:
    """Opens a local repository with a password."""

    def __init__(self, folder: Path, password: str) -> None:
        self.folder = folder
        self.key = self._find_key(password.encode())
        self.config = json.loads(self.key.unseal((folder / "config").read_bytes()))
        self.polynomial = int(self.config["chunker_polynomial"], 16)

    @classmethod
    def bare(cls, folder: Path, *, version: int = 2) -> PlainRepository:
        """A new repository without config and key files, for what needs only a place for packs and index files."""
        for name in ("data", "index", "snapshots"):
            (folder / name).mkdir(parents=True)
        repository = cls.__new__(cls)
        repository.folder = folder
        repository.key = kernel.Key(os.urandom(32), os.urandom(16), os.urandom(16))
        repository.config = {"version": version}
        repository.polynomial = 0x3DA3358B4DC173
        return repository

    def _find_key(self, password: bytes) -> kernel.Key:
        for file in sorted((self.folder / "keys").iterdir()):
            stored = json.loads(file.read_bytes())
            derived = hashlib.scrypt(
                password,
                salt=base64.b64decode(stored["salt"]),
                n=stored["N"],
                r=stored["r"],
                p=stored["p"],
                maxmem=256 << 20,
                dklen=64,
            )
            user = kernel.Key(derived[:32], derived[32:48], derived[48:])
            try:
                master = json.loads(user.unseal(base64.b64decode(stored["data"])))
            except kernel.KernelError:
                continue
            decode = base64.b64decode
            return kernel.Key(decode(master["encrypt"]), decode(master["mac"]["k"]), decode(master["mac"]["r"]))
        raise AssertionError(f"no key file of {self.folder} opens with the password")

    def unpacked(self, kind: str, name: str) -> bytes:
        """The plaintext of an index, snapshot or lock file."""
        plain = self.key.unseal((self.folder / kind / name).read_bytes())
        if plain[:1] in (b"{", b"["):
            return plain
        assert plain[:1] == b"\x02"
        return kernel.zstd_decompress(plain[1:], 512 << 20)

    def names(self, kind: str) -> list[str]:
        folder = self.folder / kind
        return sorted(f.name for f in folder.rglob("*") if f.is_file()) if folder.exists() else []

    def pack(self, name: str) -> Path:
        return self.folder / "data" / name[:2] / name

    def index(self) -> kernel.Index:
        index = kernel.Index()
        for name in self.names("index"):
            index.add(name, self.unpacked("index", name))
        return index

    def snapshots(self) -> list[dict[str, object]]:
        """All snapshots, oldest first."""
        found = [json.loads(self.unpacked("snapshots", name)) for name in self.names("snapshots")]
        return sorted(found, key=lambda s: str(s["time"]))
