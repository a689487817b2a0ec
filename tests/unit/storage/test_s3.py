"""Locations, options, and every way in which an answer can fail to come."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lowtide_engine.errors import (
    BadInput,
    CredentialsMissing,
    EngineError,
    FileMissing,
    FileShort,
    StorageError,
    StorageFull,
    StorageRefused,
)
from lowtide_engine.storage import CONFIG, File, FileKind, Listed, StorageOptions
from lowtide_engine.storage.retry import Retrying
from lowtide_engine.storage.s3 import S3Storage, open_s3
from lowtide_engine.storage.s3_location import S3Location, addressing, region_of
from tests.fakes import FakeClock
from tests.unit.storage.certificate import self_signed
from tests.unit.storage.s3_stub import Stub, s3_stub

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": "tok3n"}
DATA = bytes(range(256)) * 30
PACK = File(FileKind.DATA, hashlib.sha256(DATA).hexdigest())
KEY = f"prefix/{PACK.path}"

STUCK = 3.0
"""Seconds after which an answer is given up: one that does come may be late on a machine that has much to do."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    with s3_stub() as server:
        yield server


@pytest.fixture
def storage(stub: Stub) -> Iterator[S3Storage]:
    made = open_s3(stub.location, StorageOptions(environment=KEYS, stuck_timeout=STUCK, connect_timeout=2))
    yield made
    made.close()


@pytest.fixture
def retrying(storage: S3Storage) -> Retrying:
    return Retrying(storage, FakeClock())


@pytest.mark.parametrize(
    ("location", "host", "bucket", "prefix", "tls", "printed"),
    [
        ("s3:https://h:9000/b/p/q", "h:9000", "b", "p/q", True, "s3:https://h:9000/b/p/q"),
        ("s3:http://h/b", "h", "b", "", False, "s3:http://h/b"),
        ("s3:h/b/p/", "h", "b", "p", True, "s3:https://h/b/p"),
        ("s3://h/b//p//q/", "h", "b", "p/q", True, "s3:https://h/b/p/q"),
        ("s3:h/b/./p", "h", "b", "p", True, "s3:https://h/b/p"),
    ],
)
def test_restics_forms_of_a_location(
    location: str, host: str, bucket: str, prefix: str, tls: bool, printed: str
) -> None:
    parsed = S3Location.parse(location)
    assert (parsed.host, parsed.bucket, parsed.prefix, parsed.tls) == (host, bucket, prefix, tls)
    assert str(parsed) == printed
    assert parsed.key("config") == (f"{prefix}/config" if prefix else "config")


@pytest.mark.parametrize(
    "location", ["s3:", "s3:h", "s3:https://h", "s3:https://h/", "s3:///b", "s3:h/b/../../c", "s3:https://[::1/b"]
)
def test_a_location_that_lacks_something_is_refused(location: str) -> None:
    with pytest.raises(BadInput, match="s3:https://host/bucket/prefix"):
        S3Location.parse(location)


@pytest.mark.parametrize("location", [f"s3:https://me:{SECRET}@h/b", "s3:me:hunter2@h/b"])
def test_credentials_in_a_location_are_refused_and_not_repeated(location: str) -> None:
    with pytest.raises(BadInput, match="AWS_ACCESS_KEY_ID") as caught:
        S3Location.parse(location)
    assert SECRET not in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "options", "environment", "region"),
    [
        ("s3:minio:9000/b", {}, {}, "us-east-1"),
        ("s3:s3.amazonaws.com/b", {}, {}, None),
        ("s3:s3.eu-central-1.amazonaws.com/b", {}, {"AWS_DEFAULT_REGION": "us-west-2"}, "eu-central-1"),
        ("s3:s3-eu-west-1.amazonaws.com/b", {}, {}, "eu-west-1"),
        ("s3:s3.dualstack.eu-west-1.amazonaws.com/b", {}, {}, "eu-west-1"),
        ("s3:minio/b", {}, {"AWS_DEFAULT_REGION": "here"}, "here"),
        ("s3:minio/b", {}, {"AWS_DEFAULT_REGION": "here", "AWS_REGION": "there"}, "there"),
        ("s3:storage.googleapis.com/b", {}, {}, "auto"),
        ("s3:minio/b", {"region": "mine"}, {"AWS_DEFAULT_REGION": "here"}, "mine"),
    ],
)
def test_the_region_to_sign_for(
    location: str, options: dict[str, str], environment: dict[str, str], region: str | None
) -> None:
    assert region_of(S3Location.parse(location), options, environment) == region


def test_amazons_own_hosts_are_left_to_boto() -> None:
    assert S3Location.parse("s3:s3.amazonaws.com/b").endpoint is None
    assert S3Location.parse("s3:s3.eu-west-1.amazonaws.com/b").endpoint is None
    assert S3Location.parse("s3:s3.amazonaws.com.evil.example/b").endpoint == "https://s3.amazonaws.com.evil.example"


def test_bucket_lookup_has_restics_words() -> None:
    assert [addressing(word) for word in ("auto", "dns", "path")] == ["auto", "virtual", "path"]
    with pytest.raises(BadInput, match="auto, dns, path"):
        addressing("host")


def test_a_save_is_one_request_that_says_what_it_carries(storage: S3Storage, stub: Stub) -> None:
    storage.save(PACK, memoryview(DATA))
    [(method, path, headers)] = stub.requests
    assert (method, path) == ("PUT", KEY)
    assert stub.objects[KEY] == DATA
    assert headers["X-Amz-Content-SHA256"] == PACK.name
    assert "x-amz-content-sha256" in headers["Authorization"]
    unwanted = ("checksum", "transfer-encoding", "content-md5")
    assert not [name for name in headers if any(word in name.lower() for word in unwanted)]


def test_nothing_is_asked_that_google_does_not_know(stub: Stub) -> None:
    """Google's S3 interface knows none of Amazon's checksums, no signed chunks, no deletion of many; requests are
    signed for the region "auto", in which no bucket can be made.
    """
    keys = {name: value for name, value in KEYS.items() if "TOKEN" not in name}
    storage = open_s3(stub.location, StorageOptions(environment=keys, extended={"s3.region": "auto"}))
    storage.create()
    storage.save(PACK, DATA)
    assert storage.load(PACK, 1, 2) == DATA[1:3]
    assert storage.stat(PACK) == len(DATA)
    assert [*storage.list(FileKind.DATA)] == [Listed(PACK.name, len(DATA))]
    storage.delete(PACK)
    storage.close()
    assert stub.methods() == ["HEAD", "PUT", "PUT", "GET", "HEAD", "GET", "DELETE"]
    assert stub.objects == {"": b""}
    for _, _, headers in stub.requests:
        names = {name.lower() for name in headers}
        known = {"x-amz-content-sha256", "x-amz-date"}
        assert {name for name in names if name.startswith("x-amz-")} == known
        assert not names & {"transfer-encoding", "content-encoding", "trailer", "content-md5"}
        assert "/auto/s3/aws4_request" in headers["Authorization"]
        assert "STREAMING" not in headers.get("X-Amz-Content-SHA256", "")


def test_a_bucket_with_an_object_lock_gets_the_checksum_that_it_asks_for(storage: S3Storage, stub: Stub) -> None:
    config = b"a config has no name"
    stub.wants_checksum = True
    storage.save(PACK, DATA)
    storage.save(PACK, DATA)
    storage.save(CONFIG, config)
    assert stub.objects[KEY] == DATA
    digests = [base64.b64encode(hashlib.sha256(data).digest()).decode() for data in (DATA, DATA, config)]
    assert [headers.get("x-amz-checksum-sha256") for _, _, headers in stub.requests] == [None, *digests]


def test_the_storage_class_is_for_every_file_and_never_an_archive(stub: Stub) -> None:
    options = StorageOptions(environment=KEYS, extended={"s3.storage-class": "STANDARD_IA"})
    storage = open_s3(stub.location, options)
    storage.save(PACK, DATA)
    storage.save(File(FileKind.INDEX, PACK.name), DATA)
    storage.close()
    assert [headers.get("x-amz-storage-class") for _, _, headers in stub.requests] == ["STANDARD_IA"] * 2
    for archive in ("GLACIER", "deep_archive"):
        with pytest.raises(BadInput, match="archive"):
            open_s3(stub.location, StorageOptions(environment=KEYS, extended={"s3.storage-class": archive}))


@pytest.mark.parametrize("fault", ["reset", "500", "503", "400"])
def test_a_save_that_was_not_done_is_repeated(retrying: Retrying, stub: Stub, fault: str) -> None:
    stub.faults = [fault]
    retrying.save(PACK, DATA)
    assert stub.methods() == ["PUT", "HEAD", "PUT"]
    assert stub.objects[KEY] == DATA


def test_a_save_whose_reply_was_lost_is_not_sent_again(retrying: Retrying, stub: Stub) -> None:
    stub.faults = ["lost"]
    retrying.save(PACK, DATA)
    assert stub.methods() == ["PUT", "HEAD"]


def test_a_save_that_gets_stuck_is_given_up_and_repeated(retrying: Retrying, stub: Stub) -> None:
    stub.faults = ["stuck"]
    retrying.save(PACK, DATA)
    assert stub.methods() == ["PUT", "HEAD", "PUT"]


def test_a_403_on_a_repeated_save_is_no_failure(retrying: Retrying, stub: Stub) -> None:
    stub.faults = ["lost", "reset", "403"]
    retrying.save(PACK, DATA)
    assert stub.methods() == ["PUT", "HEAD", "PUT", "HEAD"]
    assert stub.objects[KEY] == DATA


def test_a_403_on_a_save_that_was_not_done_is_final(retrying: Retrying, stub: Stub) -> None:
    stub.faults = ["403"]
    with pytest.raises(StorageRefused, match="AccessDenied") as caught:
        retrying.save(PACK, DATA)
    assert stub.methods() == ["PUT", "HEAD"]
    assert KEYS["AWS_ACCESS_KEY_ID"] not in "".join(traceback.format_exception(caught.value)[-1:])


def test_a_full_quota_is_final(retrying: Retrying, stub: Stub) -> None:
    stub.faults = ["507"]
    with pytest.raises(StorageFull, match="QuotaExceeded"):
        retrying.save(PACK, DATA)


@pytest.mark.parametrize("fault", ["cut", "reset", "503", "stuck"])
@pytest.mark.parametrize(("offset", "length"), [(0, None), (100, 2000)])
def test_a_read_that_was_cut_is_repeated(
    retrying: Retrying, stub: Stub, fault: str, offset: int, length: int | None
) -> None:
    stub.objects[KEY] = DATA
    stub.faults = [fault]
    assert retrying.load(PACK, offset, length) == DATA[offset:][:length]
    assert stub.methods() == ["GET", "GET"]


def test_an_object_that_is_too_short_says_so_at_once(retrying: Retrying, stub: Stub) -> None:
    stub.objects[KEY] = DATA
    with pytest.raises(FileShort, match="7680 bytes"):
        retrying.load(PACK, 7000, 1000)
    assert stub.methods() == ["GET"]


def test_a_server_without_ranges_is_found_out(storage: S3Storage, stub: Stub) -> None:
    stub.objects[KEY] = DATA
    stub.faults = ["whole"]
    with pytest.raises(StorageError, match="ranges"):
        storage.load(PACK, 0, len(DATA) - 1)


def test_boto_itself_repeats_nothing(storage: S3Storage, stub: Stub) -> None:
    stub.faults = ["500"] * 5
    with pytest.raises(StorageError) as caught:
        storage.load(PACK)
    assert caught.value.retryable
    assert len(stub.requests) == 1


def test_no_server_is_a_retryable_error_that_names_the_place(unused_port: int) -> None:
    options = StorageOptions(environment=KEYS, connect_timeout=0.5)
    storage = open_s3(f"s3:http://127.0.0.1:{unused_port}/bucket", options)
    with pytest.raises(StorageError, match=f"127.0.0.1:{unused_port}/bucket") as caught:
        storage.save(PACK, DATA)
    assert caught.value.retryable
    assert not caught.value.ambiguous
    storage.close()


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Nobody listens on it, nor can anybody begin to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def test_no_credentials_say_what_to_set(stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    storage = open_s3(stub.location, StorageOptions(environment={}))
    with pytest.raises(CredentialsMissing, match="AWS_ACCESS_KEY_ID"):
        storage.load(PACK)
    storage.close()
    assert stub.requests == []


def test_a_profile_of_the_shared_files_is_used(stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("[backup]\naws_access_key_id = PROFILEKEY\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    storage = open_s3(stub.location, StorageOptions(environment={"AWS_PROFILE": "backup"}))
    storage.save(PACK, DATA)
    storage.close()
    assert "Credential=PROFILEKEY/" in stub.requests[0][2]["Authorization"]
    missing = open_s3(stub.location, StorageOptions(environment={"AWS_PROFILE": "nobody"}))
    with pytest.raises(CredentialsMissing, match="nobody"):
        missing.stat(PACK)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"))


def test_a_ca_of_ones_own(certificate: Path) -> None:
    with s3_stub(certificate) as stub:
        stub.objects[KEY] = DATA
        unknown = open_s3(stub.location, StorageOptions(environment=KEYS))
        with pytest.raises(StorageError, match="RESTIC_CACERT"):
            unknown.load(PACK)
        known = open_s3(stub.location, StorageOptions(environment=KEYS, ca_file=certificate))
        assert known.load(PACK) == DATA
        careless = open_s3(stub.location, StorageOptions(environment=KEYS, insecure_tls=True))
        with pytest.warns(Warning, match="Unverified HTTPS"):
            assert careless.load(PACK) == DATA
        for storage in (unknown, known, careless):
            storage.close()


def test_our_certificate_is_shown_to_a_server_that_asks_for_it(certificate: Path) -> None:
    with s3_stub(certificate, asks_for_ours=True) as stub:
        stub.objects[KEY] = DATA
        ours = (certificate, certificate)
        known = open_s3(stub.location, StorageOptions(environment=KEYS, ca_file=certificate, client_certificate=ours))
        assert known.load(PACK) == DATA
        stranger = open_s3(stub.location, StorageOptions(environment=KEYS, ca_file=certificate))
        with pytest.raises(StorageError):
            stranger.load(PACK)
        for storage in (known, stranger):
            storage.close()


def test_a_bucket_can_be_a_host_name(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = socket.getaddrinfo

    def resolve(host: str, *more: Any, **named: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1", *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    location = f"s3:http://storage.example:{stub.port}/bucket/prefix"
    storage = open_s3(location, StorageOptions(environment=KEYS, extended={"s3.bucket-lookup": "dns"}))
    storage.save(PACK, DATA)
    assert storage.load(PACK) == DATA
    storage.close()
    assert set(asked) == {"bucket.storage.example"}
    assert stub.objects == {KEY: DATA}
    assert {headers["Host"] for _, _, headers in stub.requests} == {f"bucket.storage.example:{stub.port}"}


def test_the_token_of_a_session_goes_with_each_request(stub: Stub) -> None:
    storage = open_s3(stub.location, StorageOptions(environment=KEYS))
    storage.save(PACK, DATA)
    assert storage.load(PACK) == DATA
    storage.close()
    assert {headers["X-Amz-Security-Token"] for _, _, headers in stub.requests} == {KEYS["AWS_SESSION_TOKEN"]}


def test_a_role_is_assumed_by_a_web_identity(stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a Kubernetes service account gets at Amazon: a token in a file, and a role to assume with it."""
    (tmp_path / "token").write_text("a.web.token")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backup")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{stub.port}/")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    storage = open_s3(stub.location, StorageOptions(environment={}))
    storage.save(PACK, DATA)
    storage.close()
    (assumed, saved) = stub.requests
    assert assumed[0] == "POST"
    assert stub.bodies[0]["RoleArn"] == "arn:aws:iam::123456789012:role/backup"
    assert stub.bodies[0]["WebIdentityToken"] == "a.web.token"
    assert saved[2]["X-Amz-Security-Token"] == "of the role"
    assert "Credential=ASIAROLE/" in saved[2]["Authorization"]


def test_another_role_is_assumed_as_restic_names_it(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{stub.port}/")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    environment = {
        **KEYS,
        "RESTIC_AWS_ASSUME_ROLE_ARN": "arn:aws:iam::123456789012:role/backup",
        "RESTIC_AWS_ASSUME_ROLE_EXTERNAL_ID": "shop",
    }
    storage = open_s3(stub.location, StorageOptions(environment=environment))
    storage.save(PACK, DATA)
    storage.save(File(FileKind.INDEX, PACK.name), DATA)
    storage.close()
    assert stub.methods() == ["POST", "PUT", "PUT"]
    body = stub.bodies[0]
    assert (body["Action"], body["ExternalId"], body["RoleSessionName"]) == ("AssumeRole", "shop", "lowtide")
    assert "Credential=AKIAIOSFODNN7EXAMPLE/" in stub.requests[0][2]["Authorization"]
    assert "Credential=ASIAROLE/" in stub.requests[1][2]["Authorization"]


def test_nothing_of_the_credentials_is_shown(storage: S3Storage, stub: Stub) -> None:
    stub.faults = ["403"]
    with pytest.raises(EngineError) as caught:
        storage.load(PACK)
    shown = "".join(traceback.format_exception(caught.value)) + repr(storage) + storage.location + repr(caught.value)
    assert SECRET not in shown
    assert "tok3n" not in shown


@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_ends_with_a_line_break_is_named_and_not_shown(stub: Stub, name: str) -> None:
    """As one from a file that `echo` made. http.client says what a header may not hold by repeating it."""
    storage = open_s3(stub.location, StorageOptions(environment=KEYS | {name: f"{SECRET}\n"}))
    assert_refused_in_silence(storage, f"{name} holds a line break")


def test_a_token_of_a_command_that_ends_with_a_line_break_is_not_shown(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = {"Version": 1, "AccessKeyId": "key", "SecretAccessKey": "x", "SessionToken": f"{SECRET}\n"}
    (tmp_path / "answer").write_text(json.dumps(answer))
    (tmp_path / "config").write_text(f"[profile asks]\ncredential_process = cat {tmp_path / 'answer'}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    storage = open_s3(stub.location, StorageOptions(environment={"AWS_PROFILE": "asks"}))
    assert_refused_in_silence(storage, "a key, a token or the URL of a proxy holds what can't be sent")


def test_a_proxy_with_a_slash_in_its_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = behind_proxy(f"http://me:{SECRET}@127.0.0.1:1", monkeypatch)
    assert_refused_in_silence(storage, "a key, a token or the URL of a proxy holds what can't be sent")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_is_not_there_is_not_shown(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    storage = behind_proxy(f"{scheme}://me:s3cret@127.0.0.1:1", monkeypatch)
    with pytest.raises(StorageError, match="the proxy could not be reached") as caught:
        storage.load(PACK)
    assert caught.value.retryable
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    storage.close()


def behind_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> S3Storage:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return open_s3("s3:http://storage.invalid/bucket", StorageOptions(environment=KEYS))


def assert_refused_in_silence(storage: S3Storage, message: str) -> None:
    """That a call fails for good, and that nothing of what it was given is in a traceback."""
    with pytest.raises(BadInput, match=message) as caught:
        storage.load(PACK)
    shown = "".join(traceback.format_exception(caught.value))
    for part in SECRET.split("/"):
        assert part not in shown
    storage.close()


def test_what_is_missing_is_missing(storage: S3Storage) -> None:
    with pytest.raises(FileMissing):
        storage.load(PACK)
    with pytest.raises(FileMissing):
        storage.stat(PACK)
