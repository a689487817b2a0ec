"""A bucket with versions and an object lock: what is deleted leaves the listing and stays in the bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import boto3
import pytest

from lowtide_engine.errors import FileMissing
from lowtide_engine.storage import CONFIG, File, FileKind, Listed, StorageOptions, open_storage
from lowtide_engine.storage.retry import Retrying
from tests.fakes import FakeClock
from tests.s3 import REGION, S3Server, s3_server

pytestmark = pytest.mark.s3
DATA = bytes(range(256)) * 100
PACK = File(FileKind.DATA, hashlib.sha256(DATA).hexdigest())


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server(versions=True) as own:
        yield own


def test_what_is_deleted_is_gone_for_us_and_kept_by_the_bucket(server: S3Server) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    client.put_object_lock_configuration(
        Bucket="locked",
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}},
        },
    )
    place = f"s3:{server.endpoint}/locked/repo"
    storage = open_storage(place, StorageOptions(environment=server.environment), clock=FakeClock())
    assert isinstance(storage, Retrying)
    storage.create()
    storage.save(CONFIG, b"version 1")
    storage.save(CONFIG, b"version 2")
    for _ in range(2):
        storage.save(PACK, DATA)
    assert storage.load(CONFIG) == b"version 2"
    assert [*storage.list(FileKind.DATA)] == [Listed(PACK.name, len(DATA))]

    storage.delete(PACK)

    assert [*storage.list(FileKind.DATA)] == []
    with pytest.raises(FileMissing):
        storage.load(PACK)
    versions = client.list_object_versions(Bucket="locked", Prefix=f"repo/{PACK.path}")
    assert [version["Size"] for version in versions["Versions"]] == [len(DATA)] * 2
    assert len(versions["DeleteMarkers"]) == 1
    storage.save(PACK, DATA)
    assert storage.load(PACK) == DATA
    storage.close()
    client.close()
