"""Every storage counts each byte that leaves and comes, once, in pieces: so limits hold whatever the storage is."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lowtide_engine.storage import File, FileKind, Storage, StorageOptions, open_storage
from lowtide_engine.storage.retry import Retrying
from tests.fakes import FakeClock

DATA = os.urandom(1_000_000)
PACK = File(FileKind.DATA, hashlib.sha256(DATA).hexdigest())


class Counting:
    """A pace that waits for nothing and counts."""

    piece = 50_000
    limits = True

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.taken: list[int] = []

    def take(self, count: int) -> None:
        with self._guard:
            if count:
                self.taken.append(count)


def _place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str], dict[str, str]]:
    """Where a new repository is, and the environment and options that it needs."""
    path = f"limits-{secrets.token_hex(4)}"
    match request.param:
        case "s3":
            server = request.getfixturevalue("s3_server")
            return server.repository(path), server.environment, {}
        case "sftp":
            server = request.getfixturevalue("ssh_server")
            return server.repository(path), {}, server.options
        case "rest":
            server = request.getfixturevalue("rest_server")
            return server.repository(path), server.environment, {}
        case _:
            return str(tmp_path / path), {}, {}


KINDS = [
    pytest.param("local"),
    *(pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("s3", "sftp", "rest")),
]


@pytest.fixture(params=KINDS)
def limited(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Counting, Counting], Storage]:
    place, environment, extended = _place(request, tmp_path)

    def make(up: Counting, down: Counting) -> Storage:
        options = StorageOptions(environment=environment, extended=extended, uploads=up, downloads=down)
        storage = open_storage(place, options, clock=FakeClock())
        assert isinstance(storage, Retrying)
        return storage.inner

    return make


def test_each_byte_is_counted_once_and_in_pieces(limited: Callable[[Counting, Counting], Storage]) -> None:
    up, down = Counting(), Counting()
    storage = limited(up, down)
    storage.create()
    storage.save(PACK, DATA)
    assert (sum(up.taken), sum(down.taken)) == (len(DATA), 0)
    assert max(up.taken) <= Counting.piece
    assert storage.load(PACK) == DATA
    assert storage.load(PACK, 1000, 300_000) == DATA[1000:301_000]
    assert (sum(up.taken), sum(down.taken)) == (len(DATA), len(DATA) + 300_000)
    assert max(down.taken) <= Counting.piece
    storage.close()
