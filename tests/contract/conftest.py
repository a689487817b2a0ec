"""Each storage as a fixture: whoever adds one adds a line to MAKERS, and every test here holds for it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lowtide_engine.repository.cache import Cache, CachedStorage
from lowtide_engine.storage import Storage, StorageOptions, open_storage
from lowtide_engine.storage.local import LocalStorage
from lowtide_engine.storage.memory import MemoryStorage
from lowtide_engine.storage.retry import Retrying
from tests.fakes import FakeClock, FaultyStorage
from tests.rest import RestServer
from tests.s3 import S3Server
from tests.sshd import SshServer

Request = pytest.FixtureRequest


def _memory(request: Request, folder: Path) -> Storage:
    return MemoryStorage()


def _local(request: Request, folder: Path) -> Storage:
    return LocalStorage(folder / "repo")


def _s3(request: Request, folder: Path) -> Storage:
    server: S3Server = request.getfixturevalue("s3_server")
    options = StorageOptions(environment=server.environment)
    storage = open_storage(server.repository(f"contract/{secrets.token_hex(4)}"), options, clock=FakeClock())
    assert isinstance(storage, Retrying)
    return storage.inner


def _sftp(request: Request, folder: Path) -> Storage:
    server: SshServer = request.getfixturevalue("ssh_server")
    options = StorageOptions(environment={}, extended=server.options)
    storage = open_storage(server.repository(secrets.token_hex(4)), options, clock=FakeClock())
    assert isinstance(storage, Retrying)
    return storage.inner


def _rest(request: Request, folder: Path) -> Storage:
    server: RestServer = request.getfixturevalue("rest_server")
    options = StorageOptions(environment=server.environment)
    storage = open_storage(server.repository(secrets.token_hex(4)), options, clock=FakeClock())
    assert isinstance(storage, Retrying)
    return storage.inner


def _retrying(request: Request, folder: Path) -> Storage:
    return Retrying(FaultyStorage(MemoryStorage(), chance=0.2, seed=4), FakeClock())


def _cached(request: Request, folder: Path) -> Storage:
    cache = Cache.open(folder / "cache", "ab" * 32)
    assert cache is not None
    return CachedStorage(MemoryStorage(), cache)


MAKERS: dict[str, Callable[[Request, Path], Storage]] = {
    "memory": _memory,
    "local": _local,
    "s3": _s3,
    "sftp": _sftp,
    "rest": _rest,
    "retrying": _retrying,
    "cached": _cached,
}


MARKS = {name: getattr(pytest.mark, name) for name in ("s3", "sftp", "rest")}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in MAKERS])
def storage(request: Request, tmp_path: Path) -> Iterator[Storage]:
    """An empty storage, created."""
    made = MAKERS[request.param](request, tmp_path)
    made.create()
    yield made
    made.close()
