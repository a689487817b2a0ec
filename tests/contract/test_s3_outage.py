"""An S3 server that dies and comes back: saves wait for it, and what it acknowledged is there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest

from lowtide_engine.errors import StorageError
from lowtide_engine.storage import File, FileKind, StorageOptions, open_storage
from lowtide_engine.storage.retry import Retrying
from tests.fakes import FakeClock
from tests.s3 import S3Server, s3_server

pytestmark = pytest.mark.s3


@pytest.fixture
def server() -> Iterator[S3Server]:
    with s3_server() as own:
        yield own


def test_a_save_outlives_a_crash_of_the_server(server: S3Server) -> None:
    clock = FakeClock()
    storage = open_storage(server.repository("outage"), StorageOptions(environment=server.environment), clock=clock)
    contents = [os.urandom(100_000) for _ in range(4)]
    files = [File(FileKind.DATA, hashlib.sha256(data).hexdigest()) for data in contents]
    for file, data in zip(files[:2], contents[:2], strict=True):
        storage.save(file, data)
    server.kill()
    clock.on_sleep = lambda seconds: server.restart() if len(clock.slept) == 3 else None
    for file, data in zip(files[2:], contents[2:], strict=True):
        storage.save(file, data)
    assert len(clock.slept) == 3
    assert [storage.load(file) for file in files] == contents
    assert len([*storage.list(FileKind.DATA)]) == 4
    storage.close()


def test_a_server_that_stays_away_is_given_up_with_a_sentence(server: S3Server) -> None:
    options = StorageOptions(environment=server.environment)
    storage = open_storage(server.repository("outage"), options, clock=FakeClock())
    assert isinstance(storage, Retrying)
    server.kill()
    with pytest.raises(StorageError, match=f"could not save data/.*{server.port}/lowtide/outage"):
        storage.save(File(FileKind.DATA, "ab" * 32), b"x")
    storage.close()


def test_wrong_credentials_are_refused_at_once(server: S3Server) -> None:
    clock = FakeClock()
    environment = server.environment | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    storage = open_storage(server.repository("outage"), StorageOptions(environment=environment), clock=clock)
    with pytest.raises(StorageError, match="SignatureDoesNotMatch") as caught:
        storage.load(File(FileKind.DATA, "ab" * 32))
    assert caught.value.reason == "StorageRefused"
    assert clock.slept == []
    storage.close()
