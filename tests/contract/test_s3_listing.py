"""Listings of S3 beyond one page, in both of its versions, among objects of others."""

from __future__ import annotations

import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from lowtide_engine.storage import File, FileKind, Listed, StorageOptions, open_storage
from tests.fakes import FakeClock
from tests.s3 import S3Server

pytestmark = pytest.mark.s3


@pytest.mark.parametrize("version_1", ["false", "true"])
def test_a_repository_beside_another(s3_server: S3Server, version_1: str) -> None:
    path = f"listing/{secrets.token_hex(4)}"
    options = StorageOptions(
        environment=s3_server.environment, extended={"s3.list-objects-v1": version_1, "s3.bucket-lookup": "path"}
    )
    storage, other, below = (
        open_storage(s3_server.repository(name), options, clock=FakeClock()) for name in (path, path + "2", path + "/x")
    )
    contents = [str(number).encode() for number in range(1050)]
    files = [File(FileKind.INDEX, hashlib.sha256(data).hexdigest()) for data in contents]
    with ThreadPoolExecutor(4) as pool:
        [*pool.map(storage.save, files, contents)]
    for stranger in (other, below):
        stranger.save(File(FileKind.INDEX, "ab" * 32), b"not ours")
    assert sorted(storage.list(FileKind.INDEX)) == sorted(
        Listed(file.name, len(data)) for file, data in zip(files, contents, strict=True)
    )
    for made in (storage, other, below):
        made.close()
