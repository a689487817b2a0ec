"""The kernel's readers on repositories that restic and rustic wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowtide_engine import _kernel as kernel
from tests.unit.kernel.plain_repository import PlainRepository, unpack

WHOLE = [
    ("restic/small-repo.tar.gz", "geheim"),
    ("restic/copy-unstable-json.tar.gz", "geheim"),
    ("restic/repo-duplicates.tar.gz", "geheim"),
    ("restic/repo-layout-default.tar.gz", "geheim"),
    ("restic/repo-restore-permissions-test.tar.gz", "geheim"),
    ("rustic/restic-repo.tar.gz", "restic"),
]


@pytest.mark.parametrize(("name", "password"), WHOLE)
def test_every_pack_of_a_sound_repository_verifies(name: str, password: str, tmp_path: Path) -> None:
    repository = PlainRepository(unpack(name, tmp_path), password)
    index = repository.index()
    packs = [p for p in index.packs() if repository.pack(p).exists()]
    assert packs
    assert kernel.is_irreducible(repository.polynomial)
    for pack in packs:
        data = repository.pack(pack).read_bytes()
        assert kernel.verify_pack(repository.key, index, pack, data) == []
        assert index.pack_size(pack) == len(data)
        header = int.from_bytes(data[-4:], "little")
        assert kernel.read_pack_header(repository.key, data[-4 - header : -4]) == index.pack_entries(pack)


def test_small_repo_has_its_three_packs_and_ten_blobs(tmp_path: Path) -> None:
    repository = PlainRepository(unpack("restic/small-repo.tar.gz", tmp_path), "geheim")
    index = repository.index()
    assert (len(index.packs()), len(index), len(repository.snapshots())) == (3, 10, 4)


def test_every_blob_of_a_compressed_repository_opens(tmp_path: Path) -> None:
    repository = PlainRepository(unpack("rustic/restic-repo.tar.gz", tmp_path), "restic")
    index = repository.index()
    opened = 0
    for pack in index.packs():
        data = repository.pack(pack).read_bytes()
        for entry in index.pack_entries(pack):
            assert index.contains(entry.kind, entry.blob)
            assert pack in [place.pack for place in index.locate(entry.kind, entry.blob)]
            sealed = data[entry.offset : entry.offset + entry.length]
            plain = kernel.open_blob(repository.key, sealed, entry.blob, entry.uncompressed_length)
            assert kernel.sha256(plain) == entry.blob
            opened += 1
    assert opened == 60


def test_a_damaged_pack_is_described(tmp_path: Path) -> None:
    repository = PlainRepository(unpack("restic/small-repo.tar.gz", tmp_path), "geheim")
    index = repository.index()
    pack = next(p for p in index.packs() if len(index.pack_entries(p)) > 1)
    entry = index.pack_entries(pack)[0]
    data = bytearray(repository.pack(pack).read_bytes())
    data[entry.offset + 20] ^= 1
    problems = kernel.verify_pack(repository.key, index, pack, data)
    assert len(problems) == 2
    assert pack in problems[0]
    assert entry.blob in problems[1]
    assert len(kernel.verify_pack(repository.key, index, pack, data[:-1])) > 1


def test_a_wrong_password_is_a_wrong_mac(tmp_path: Path) -> None:
    repository = PlainRepository(unpack("restic/small-repo.tar.gz", tmp_path), "geheim")
    other = kernel.Key(b"1" * 32, b"2" * 16, b"3" * 16)
    with pytest.raises(kernel.KernelError, match="MAC"):
        other.unseal((repository.folder / "config").read_bytes())
