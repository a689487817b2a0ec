"""Which storage a location means, and where the location comes from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lowtide_engine.errors import BadInput
from lowtide_engine.storage import StorageOptions, find_location, open_storage, options_from_environment, parse_extended
from lowtide_engine.storage.local import LocalStorage
from lowtide_engine.storage.rest import RestStorage
from lowtide_engine.storage.retry import Retrying
from lowtide_engine.storage.s3 import S3Storage
from lowtide_engine.storage.sftp import SftpStorage


def kind_of(location: str) -> type:
    storage = open_storage(location, StorageOptions(environment={}))
    assert isinstance(storage, Retrying)
    return type(storage.inner)


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("/srv/repo", LocalStorage),
        ("repo", LocalStorage),
        ("./s3:repo", LocalStorage),
        ("local:repo", LocalStorage),
        ("local:/srv/sftp:x", LocalStorage),
        ("/srv/with:colon", LocalStorage),
        ("s3:https://host/bucket", S3Storage),
        ("s3://host/bucket/prefix", S3Storage),
        ("sftp:user@host:/srv", SftpStorage),
        ("sftp://user@host:22//srv", SftpStorage),
        ("rest:https://host/", RestStorage),
    ],
)
def test_a_location_means_one_storage(location: str, kind: type) -> None:
    assert kind_of(location) is kind


@pytest.mark.parametrize("location", ["azure:container:/", "foo:bar"])
def test_an_unknown_scheme_says_what_there_is(location: str) -> None:
    with pytest.raises(BadInput, match="there are local, rest, s3, sftp"):
        open_storage(location)


def test_a_location_with_credentials_in_an_unknown_scheme_is_not_repeated() -> None:
    with pytest.raises(BadInput) as caught:
        open_storage("rclone:https://me:secret@host/")
    assert "secret" not in str(caught.value)


def test_where_the_location_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "location"
    file.write_text(" s3:host/from-file\n")
    environment = {"RESTIC_REPOSITORY": "from-environment", "RESTIC_REPOSITORY_FILE": str(file)}
    assert find_location("given", environment) == "given"
    assert find_location(None, environment) == "from-environment"
    assert find_location(None, {"RESTIC_REPOSITORY_FILE": str(file)}) == "s3:host/from-file"
    assert find_location(None, {"RESTIC_REPOSITORY": "x"}, given_file=str(file)) == "s3:host/from-file"
    with pytest.raises(BadInput, match="RESTIC_REPOSITORY"):
        find_location(None, {})
    with pytest.raises(BadInput, match="two"):
        find_location("given", {}, given_file=str(file))
    with pytest.raises(BadInput, match="No such file"):
        find_location(None, {"RESTIC_REPOSITORY_FILE": str(tmp_path / "none")})


def test_extended_options() -> None:
    assert parse_extended(["s3.region=eu-1", "S3.Bucket-Lookup = path", "s3.region=eu-2"]) == {
        "s3.region": "eu-2",
        "s3.bucket-lookup": "path",
    }
    with pytest.raises(BadInput):
        parse_extended(["s3.region"])
    with pytest.raises(BadInput, match=r"no option s3\.regoin"):
        open_storage("s3:host/bucket", StorageOptions(extended={"s3.regoin": "x"}, environment={}))


def test_options_from_the_environment(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("x")
    options = options_from_environment({"RESTIC_CACERT": str(ca)}, extended={"s3.region": "r"})
    assert (options.ca_file, dict(options.extended)) == (ca, {"s3.region": "r"})
    with pytest.raises(BadInput, match="CA file"):
        options_from_environment({"RESTIC_CACERT": str(tmp_path / "none")})


def test_our_certificate_is_one_file_or_a_folder_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text("x")
    assert options_from_environment({"RESTIC_TLS_CLIENT_CERT": str(both)}).client_certificate == (both, both)
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_text("x")
    files = (tmp_path / "tls.crt", tmp_path / "tls.key")
    assert options_from_environment({}, client_certificate=str(tmp_path)).client_certificate == files
    (tmp_path / "tls.key").unlink()
    with pytest.raises(BadInput, match=r"tls\.key is not there"):
        options_from_environment({}, client_certificate=str(tmp_path))


@pytest.mark.parametrize(
    ("scheme", "location", "default"),
    [("local", "/srv", 2), ("s3", "s3:h/b", 5), ("sftp", "sftp:h:/srv", 5), ("rest", "rest:http://h/", 5)],
)
def test_each_storage_has_a_number_of_connections_of_its_own(scheme: str, location: str, default: int) -> None:
    others = {f"{name}.connections": "9" for name in ("local", "s3", "sftp", "rest") if name != scheme}
    assert open_storage(location, StorageOptions(extended=others, environment={})).connections == default
    own = others | {f"{scheme}.connections": "7"}
    assert open_storage(location, StorageOptions(extended=own, environment={})).connections == 7
    for wrong in ("0", "65", "x", "-1", "²"):
        with pytest.raises(BadInput, match="1 to 64"):
            open_storage(location, StorageOptions(extended={f"{scheme}.connections": wrong}, environment={}))


def test_options_dont_show_the_environment() -> None:
    assert "hunter2" not in repr(StorageOptions(environment={"AWS_SECRET_ACCESS_KEY": "hunter2"}))


def test_nothing_slow_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys; import lowtide_engine.repository, lowtide_engine.storage as s;"
        f"s.open_storage({str(tmp_path)!r}); s.open_storage('s3:host/bucket');"
        "s.open_storage('sftp:host:/srv'); s.open_storage('rest:https://host/');"
        "slow = ('boto3', 'botocore', 'urllib3', 'asyncssh', 'rich', 'click', 'asyncio');"
        "print([m for m in slow if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
