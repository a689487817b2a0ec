"""REST against restic's own server: who is let in, what an append-only server refuses, TLS, and a server that goes."""

from __future__ import annotations

import hashlib
import os
import secrets
import traceback
from pathlib import Path

import pytest

from lowtide_engine.errors import StorageError, StorageFull
from lowtide_engine.storage import CONFIG, File, FileKind, Storage, StorageOptions, open_storage
from tests.fakes import FakeClock
from tests.rest import RestServer, rest_server
from tests.unit.storage.certificate import self_signed

pytestmark = pytest.mark.rest
DATA = os.urandom(3_000_000)
PACK = File(FileKind.DATA, hashlib.sha256(DATA).hexdigest())
LOCK = File(FileKind.LOCK, PACK.name)


def opened(place: str, environment: dict[str, str], clock: FakeClock | None = None, **more: object) -> Storage:
    options = StorageOptions(environment=environment, **more)  # type: ignore[arg-type]
    return open_storage(place, options, clock=clock or FakeClock())


def test_credentials_may_stand_in_the_location(rest_server: RestServer) -> None:
    path = secrets.token_hex(4)
    storage = opened(rest_server.repository(path, credentials=True), {})
    storage.create()
    storage.save(PACK, DATA)
    assert storage.load(PACK) == DATA
    assert rest_server.password not in storage.location
    storage.close()


@pytest.mark.parametrize("wrong", [{}, {"RESTIC_REST_PASSWORD": "not this one"}, {"RESTIC_REST_USERNAME": "stranger"}])
def test_who_is_not_known_is_refused_at_once(rest_server: RestServer, wrong: dict[str, str]) -> None:
    clock = FakeClock()
    environment = rest_server.environment | wrong if wrong else {}
    storage = opened(rest_server.repository("x"), environment, clock)
    with pytest.raises(StorageError, match="401") as caught:
        storage.load(CONFIG)
    assert caught.value.reason == "StorageRefused"
    assert "RESTIC_REST_USERNAME" in caught.value.hint
    assert clock.slept == []
    for secret in (rest_server.password, "not this one"):
        assert secret not in "".join(traceback.format_exception(caught.value))
    storage.close()


def test_an_append_only_server_keeps_what_is_there_and_says_so() -> None:
    with rest_server("--append-only") as server:
        storage = opened(server.repository("kept"), server.environment)
        storage.create()
        for file, data in ((CONFIG, b"config"), (PACK, DATA), (LOCK, DATA)):
            storage.save(file, data)
            storage.save(file, data)
        with pytest.raises(StorageError, match="lets nothing be deleted") as caught:
            storage.delete(PACK)
        assert caught.value.reason == "StorageRefused"
        with pytest.raises(StorageError, match="lets nothing be deleted"):
            storage.save(CONFIG, b"another config")
        storage.delete(LOCK)
        assert [*storage.list(FileKind.LOCK)] == []
        assert storage.load(PACK) == DATA
        assert storage.load(CONFIG) == b"config"
        storage.close()


def test_a_full_server_is_told_as_such() -> None:
    with rest_server("--max-size", "4000000") as server:
        storage = opened(server.repository("small"), server.environment)
        storage.create()
        storage.save(PACK, DATA)
        more = os.urandom(2_000_000)
        with pytest.raises(StorageFull, match="could not save"):
            storage.save(File(FileKind.DATA, hashlib.sha256(more).hexdigest()), more)
        assert [listed.name for listed in storage.list(FileKind.DATA)] == [PACK.name]
        storage.close()


def test_a_ca_of_ones_own(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with rest_server("--tls", "--tls-cert", certificate, "--tls-key", certificate, scheme="https") as server:
        known = opened(server.repository("tls"), server.environment, ca_file=certificate)
        known.create()
        known.save(PACK, DATA)
        assert known.load(PACK) == DATA
        unknown = opened(server.repository("tls"), server.environment)
        with pytest.raises(StorageError, match="RESTIC_CACERT"):
            unknown.load(PACK)
        for storage in (known, unknown):
            storage.close()


def test_a_server_that_dies_and_comes_back_is_waited_for() -> None:
    with rest_server() as server:
        clock = FakeClock()
        storage = opened(server.repository("outage"), server.environment, clock)
        storage.create()
        server.kill()
        clock.on_sleep = lambda _: server.restart() if len(clock.slept) == 2 else None
        storage.save(PACK, DATA)
        assert len(clock.slept) == 2
        assert storage.load(PACK) == DATA
        storage.close()
