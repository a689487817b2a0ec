"""Real servers whose replies are lost after they did what they were asked: nothing is lost with them, or done twice."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lowtide_engine.errors import FileMissing
from lowtide_engine.storage import File, FileKind, Listed, Storage, StorageOptions, open_storage
from tests.fakes import FakeClock
from tests.lossy import LossyLine, lossy_line

CONTENTS = [os.urandom(200_000 + number) for number in range(4)]
FILES = [File(FileKind.DATA, hashlib.sha256(data).hexdigest()) for data in CONTENTS]


@contextmanager
def _behind_a_line(request: pytest.FixtureRequest, kind: str) -> Iterator[tuple[Storage, LossyLine, FakeClock]]:
    path, clock = f"lossy-{secrets.token_hex(4)}", FakeClock()
    server = request.getfixturevalue({"s3": "s3_server", "sftp": "ssh_server", "rest": "rest_server"}[kind])
    with lossy_line(server.port) as line:
        extended = {}
        if kind == "sftp":
            extended = {"sftp.fingerprint": server.fingerprint, "sftp.identity": str(server.key)}
        options = StorageOptions(environment=getattr(server, "environment", {}), extended=extended)
        place = server.repository(path).replace(f":{server.port}/", f":{line.port}/")
        storage = open_storage(place, options, clock=clock)
        storage.create()
        yield storage, line, clock
        storage.close()


@pytest.fixture(params=[pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("s3", "sftp", "rest")])
def lossy(request: pytest.FixtureRequest) -> Iterator[tuple[Storage, LossyLine, FakeClock]]:
    with _behind_a_line(request, request.param) as made:
        yield made


def test_saves_and_deletes_whose_replies_are_lost(lossy: tuple[Storage, LossyLine, FakeClock]) -> None:
    storage, line, _ = lossy
    for number, (file, data) in enumerate(zip(FILES, CONTENTS, strict=True), start=1):
        line.lose()
        storage.save(file, data)
        assert line.lost == number
    assert sorted(storage.list(FileKind.DATA)) == sorted(
        Listed(file.name, len(data)) for file, data in zip(FILES, CONTENTS, strict=True)
    )
    assert [storage.load(file) for file in FILES] == CONTENTS
    line.lose()
    storage.delete(FILES[0])
    assert line.lost == len(FILES) + 1
    with pytest.raises(FileMissing):
        storage.stat(FILES[0])
    assert len([*storage.list(FileKind.DATA)]) == len(FILES) - 1


def test_reads_whose_replies_are_lost(lossy: tuple[Storage, LossyLine, FakeClock]) -> None:
    storage, line, clock = lossy
    storage.save(FILES[0], CONTENTS[0])
    for lost in range(1, 4):
        line.lose()
        assert storage.load(FILES[0], 100, 100_000) == CONTENTS[0][100:100_100]
        assert line.lost == lost
    assert len(clock.slept) >= 3
    line.lose(2)
    assert [*storage.list(FileKind.DATA)] == [Listed(FILES[0].name, len(CONTENTS[0]))]
