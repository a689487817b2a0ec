"""Locations, both versions of the protocol, and every way in which an answer can fail to come."""

from __future__ import annotations

import base64
import hashlib
import socket
import traceback
from collections.abc import Iterator

import pytest

from lowtide_engine.errors import BadInput, EngineError, FileMissing, FileShort, StorageError, StorageFull
from lowtide_engine.storage import CONFIG, File, FileKind, Listed, StorageOptions
from lowtide_engine.storage.rest import RestStorage, open_rest
from lowtide_engine.storage.rest_location import RestLocation
from lowtide_engine.storage.retry import Retrying
from tests.fakes import FakeClock
from tests.unit.storage.rest_stub import Stub, rest_stub

DATA = bytes(range(256)) * 30
PACK = File(FileKind.DATA, hashlib.sha256(DATA).hexdigest())
KEY = f"data/{PACK.name}"

STUCK = 3.0
"""Seconds after which an answer is given up: one that does come may be late on a machine that has much to do."""

ENVIRONMENT = {"RESTIC_REST_USERNAME": "me", "RESTIC_REST_PASSWORD": "hunter2"}


@pytest.fixture
def stub() -> Iterator[Stub]:
    with rest_stub() as server:
        yield server


@pytest.fixture
def storage(stub: Stub) -> Iterator[RestStorage]:
    made = open_rest(stub.location, StorageOptions(environment=ENVIRONMENT, stuck_timeout=STUCK, connect_timeout=2))
    yield made
    made.close()


@pytest.fixture
def retrying(storage: RestStorage) -> Retrying:
    return Retrying(storage, FakeClock())


@pytest.mark.parametrize(
    ("location", "printed", "user", "password"),
    [
        ("rest:http://h:8000/", "rest:http://h:8000/", "me", "hunter2"),
        ("rest:https://h/a/b", "rest:https://h/a/b/", "me", "hunter2"),
        ("rest:https://h", "rest:https://h/", "me", "hunter2"),
        ("rest:http://you:p%40ss@h:80/x/", "rest:http://h/x/", "you", "p@ss"),
        ("rest:http://you@h/x/", "rest:http://h/x/", "you", ""),
        ("rest:http://[::1]:8000/x/", "rest:http://[::1]:8000/x/", "me", "hunter2"),
    ],
)
def test_restics_forms_of_a_location(location: str, printed: str, user: str, password: str) -> None:
    parsed = RestLocation.parse(location, ENVIRONMENT)
    assert str(parsed) == printed
    assert (parsed.user, parsed.password) == (user, password)
    assert password not in repr(parsed) or not password


@pytest.mark.parametrize(
    "location",
    [
        "rest:",
        "rest:h/path",
        "rest:ftp://me:s3cret@h/",
        "rest:http://me:s3cret@/",
        "rest:http://me:s3cret@h:port/",
        "rest:http://me:s3cret@h/?x=s3cret",
        "rest:http+unix://me:s3cret@/socket",
    ],
)
def test_a_location_that_is_none_is_refused_and_not_repeated(location: str) -> None:
    with pytest.raises(BadInput, match="rest:https://host:port/path/") as caught:
        RestLocation.parse(location, {})
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_an_option_that_does_not_exist_is_refused(stub: Stub) -> None:
    with pytest.raises(BadInput, match=r"rest\.connections"):
        open_rest(stub.location, StorageOptions(environment={}, extended={"rest.conections": "3"}))


def test_who_we_are_is_said_with_every_request(storage: RestStorage, stub: Stub) -> None:
    storage.create()
    storage.save(PACK, DATA)
    expected = "Basic " + base64.b64encode(b"me:hunter2").decode()
    assert [headers.get("Authorization", headers.get("authorization")) for _, _, headers in stub.requests] == [
        expected
    ] * 2


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_of_a_listing(storage: RestStorage, stub: Stub, version: int) -> None:
    stub.version = version
    assert [*storage.list(FileKind.INDEX)] == []
    contents = [str(number).encode() * number for number in range(40)]
    names = [hashlib.sha256(data).hexdigest() for data in contents]
    stub.files |= {f"index/{name}": data for name, data in zip(names, contents, strict=True)}
    stub.files |= {"index/some.tmp": b"x", f"data/{'ab' * 32}": b"y"}
    expected = [Listed(name, len(data)) for name, data in zip(names, contents, strict=True)]
    assert sorted(storage.list(FileKind.INDEX)) == sorted(expected)


def test_a_file_that_goes_while_sizes_are_asked_for_is_left_out(storage: RestStorage, stub: Stub) -> None:
    stub.version = 1
    stub.files[KEY] = DATA
    stub.faults = ["ok", "404"]
    assert [*storage.list(FileKind.DATA)] == []


@pytest.mark.parametrize("answer", ["200", "204"])
def test_what_is_no_listing_is_an_error_and_not_an_empty_repository(
    storage: RestStorage, stub: Stub, answer: str
) -> None:
    stub.faults = [answer]
    with pytest.raises(StorageError, match="no listing"):
        storage.list(FileKind.SNAPSHOT)


def test_a_server_that_is_append_only_says_so(storage: RestStorage, stub: Stub) -> None:
    stub.append_only = True
    lock = File(FileKind.LOCK, PACK.name)
    for file in (PACK, lock):
        storage.save(file, DATA)
    with pytest.raises(StorageError, match="lets nothing be deleted") as caught:
        storage.delete(PACK)
    assert caught.value.reason == "StorageRefused"
    assert "append-only" in caught.value.hint
    storage.delete(lock)
    assert [*stub.files] == [KEY]
    with pytest.raises(FileMissing):
        storage.delete(lock)


def test_what_exists_is_the_file_or_a_refusal(storage: RestStorage, stub: Stub) -> None:
    storage.save(PACK, DATA)
    storage.save(PACK, DATA)
    assert stub.methods() == ["POST", "POST", "HEAD", "HEAD"]
    stub.files[KEY] = DATA[1:]
    with pytest.raises(StorageError, match="403") as caught:
        storage.save(PACK, DATA)
    assert caught.value.reason == "StorageRefused"


def test_a_config_is_written_anew_where_that_is_allowed(storage: RestStorage, stub: Stub) -> None:
    storage.save(CONFIG, b"version 1")
    storage.save(CONFIG, b"version 2")
    assert stub.files["config"] == b"version 2"
    stub.append_only = True
    with pytest.raises(StorageError, match="lets nothing be deleted"):
        storage.save(CONFIG, b"version 3")
    assert stub.files["config"] == b"version 2"


@pytest.mark.parametrize("fault", ["reset", "500", "503", "429"])
def test_a_save_that_was_not_done_is_repeated(retrying: Retrying, stub: Stub, fault: str) -> None:
    stub.faults = [fault]
    retrying.save(PACK, DATA)
    assert stub.methods() == ["POST", "HEAD", "POST"]
    assert stub.files[KEY] == DATA


def test_a_save_whose_reply_was_lost_is_not_sent_again(retrying: Retrying, stub: Stub) -> None:
    stub.faults = ["lost"]
    retrying.save(PACK, DATA)
    assert stub.methods() == ["POST", "HEAD"]


def test_a_save_that_gets_stuck_is_given_up_and_repeated(retrying: Retrying, stub: Stub) -> None:
    stub.faults = ["stuck"]
    retrying.save(PACK, DATA)
    assert stub.methods() == ["POST", "HEAD", "POST"]


def test_a_delete_whose_reply_was_lost_is_done(retrying: Retrying, stub: Stub) -> None:
    stub.files[KEY] = DATA
    stub.faults = ["lost"]
    retrying.delete(PACK)
    assert stub.files == {}


@pytest.mark.parametrize("fault", ["cut", "reset", "503", "stuck"])
@pytest.mark.parametrize(("offset", "length"), [(0, None), (100, 2000)])
def test_a_read_that_was_cut_is_repeated(
    retrying: Retrying, stub: Stub, fault: str, offset: int, length: int | None
) -> None:
    stub.files[KEY] = DATA
    stub.faults = [fault]
    assert retrying.load(PACK, offset, length) == DATA[offset:][:length]
    assert stub.methods() == ["GET", "GET"]


def test_a_file_that_is_too_short_says_so_at_once(retrying: Retrying, stub: Stub) -> None:
    stub.files[KEY] = DATA
    with pytest.raises(FileShort, match="7680 bytes"):
        retrying.load(PACK, 7000, 1000)
    assert stub.methods() == ["GET"]


def test_a_server_without_ranges_is_found_out(storage: RestStorage, stub: Stub) -> None:
    stub.files[KEY] = DATA
    stub.faults = ["whole"]
    with pytest.raises(StorageError, match="ranges"):
        storage.load(PACK, 0, len(DATA) - 1)
    assert storage.load(PACK) == DATA


def test_a_server_that_does_not_say_how_long_an_answer_is(storage: RestStorage, stub: Stub) -> None:
    stub.files[KEY] = DATA
    for offset, length in ((0, None), (100, 2000)):
        stub.faults = ["unsaid"]
        assert storage.load(PACK, offset, length) == DATA[offset:][:length]
    for offset, length in ((len(DATA), 1), (len(DATA) - 1, 2), (2 * len(DATA), 1)):
        stub.faults = ["unsaid"]
        with pytest.raises(FileShort):
            storage.load(PACK, offset, length)


@pytest.mark.parametrize(("user", "password"), [("me", "hunter2"), ("jürgen", "5 €")])
def test_credentials_are_sent_as_restic_sends_them(user: str, password: str) -> None:
    environment = {"RESTIC_REST_USERNAME": user, "RESTIC_REST_PASSWORD": password}
    storage = open_rest("rest:http://127.0.0.1:1/", StorageOptions(environment=environment))
    kind, _, sent = storage._pool.headers["authorization"].partition(" ")
    assert (kind, base64.b64decode(sent)) == ("Basic", f"{user}:{password}".encode())


@pytest.mark.parametrize("status", ["413", "507"])
def test_a_full_server_is_final(retrying: Retrying, stub: Stub, status: str) -> None:
    stub.faults = [status]
    with pytest.raises(StorageFull, match=status):
        retrying.save(PACK, DATA)
    assert stub.methods() == ["POST"]


def test_a_server_that_is_elsewhere_is_not_followed(retrying: Retrying, stub: Stub) -> None:
    """Our password goes where the location says, and nowhere else."""
    stub.faults = ["308"]
    with pytest.raises(StorageError, match="elsewhere"):
        retrying.load(PACK)
    assert len(stub.requests) == 1


def test_no_server_is_a_retryable_error_that_names_the_place() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        location = f"rest:http://me:hunter2@127.0.0.1:{port}/repo/"
        storage = open_rest(location, StorageOptions(environment={}, connect_timeout=0.5))
        with pytest.raises(StorageError, match=f"127.0.0.1:{port}/repo") as caught:
            storage.save(PACK, DATA)
    assert caught.value.retryable
    assert not caught.value.ambiguous
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    storage.close()


@pytest.mark.parametrize("fault", ["401", "403", "500", "reset", "404"])
def test_nothing_of_the_credentials_is_shown(storage: RestStorage, stub: Stub, fault: str) -> None:
    stub.faults = [fault]
    with pytest.raises(EngineError) as caught:
        storage.load(PACK)
    shown = "".join(traceback.format_exception(caught.value)) + repr(storage) + storage.location + repr(caught.value)
    assert "hunter2" not in shown
    assert base64.b64encode(b"me:hunter2").decode() not in shown
