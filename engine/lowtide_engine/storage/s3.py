"""Files as objects of an S3 bucket, in restic's layout, over boto3.

boto3 is imported behind this module and nowhere else: it and its client cost a fifth of a second. It repeats nothing by
itself (`Retrying` does), and adds no checksum trailers, which many S3 servers don't know. What is saved is signed
together with the SHA-256 of its bytes, so that a server refuses what was changed on the way. Where a bucket asks for a
checksum, as those with an object lock do, that same SHA-256, which is the file's name, is given as one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from lowtide_engine.errors import (
    BadInput,
    CredentialsMissing,
    FileMissing,
    FileShort,
    StorageError,
    StorageFull,
    StorageRefused,
)
from lowtide_engine.storage.base import File, FileKind, Listed, check_range, is_id
from lowtide_engine.storage.pacing import BufferReader, read_paced
from lowtide_engine.storage.s3_location import OPTIONS, S3Location, addressing, region_of, storage_class

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from typing_extensions import Buffer

    from lowtide_engine.storage.options import StorageOptions

_MISSING = ("NoSuchKey", "404", "NotFound", "NoSuchBucket")
_REFUSED = (
    "AccessDenied",
    "403",
    "401",
    "Forbidden",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AllAccessDisabled",
    "AccountProblem",
)
_FULL = ("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507", "ServiceQuotaExceeded")
_FINAL_STATUS = range(400, 500)
_PASSING_STATUS = (408, 409, 425, 429)
_PASSING = (
    *("RequestTimeout", "SlowDown", "Throttling", "OperationAborted"),
    *("BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"),
)
_HINTS = {
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    "AuthorizationHeaderMalformed": "the region is wrong: set AWS_DEFAULT_REGION or give -o s3.region=…",
    "PermanentRedirect": "the bucket is in another region: set AWS_DEFAULT_REGION or give -o s3.region=…",
}
_KEY_SHAPE = re.compile(r"[A-Z0-9]{16,128}")


class S3Storage:
    """A `Storage` in one bucket below one prefix. The client is made at the first call, and shared by all threads."""

    def __init__(self, address: S3Location, options: StorageOptions) -> None:
        settings = options.of("s3", OPTIONS)
        self._address = address
        self._options = options
        self._addressing = addressing(settings.get("bucket-lookup", "auto"))
        if self._addressing == "auto" and not address.amazon:
            self._addressing = "path"
        self._region = region_of(address, settings, options.environment)
        self._storage_class = storage_class(settings.get("storage-class", ""))
        self._old_listing = settings.get("list-objects-v1", "false").lower() in ("true", "1", "t")
        self._with_checksum = False
        self._guard = threading.Lock()
        self._client: S3Client | None = None

    @property
    def location(self) -> str:
        return str(self._address)

    @property
    def connections(self) -> int:
        return self._options.connections or 5

    def create(self) -> None:
        """Make the bucket where there is none. Being refused to look counts as there being one, as in restic."""
        bucket = self._address.bucket
        with self._translated(f"look for bucket {bucket}"):
            try:
                self._s3.head_bucket(Bucket=bucket)
                return
            except Exception as error:
                status = _status(error)
                if status in (401, 403):
                    return
                if status != 404:
                    raise
        with self._translated(f"create bucket {bucket}"):
            try:
                # "auto" is what Google's are signed for, and no place: they choose one then.
                if self._region in (None, "us-east-1", "auto"):
                    self._s3.create_bucket(Bucket=bucket)
                else:
                    where: Any = {"LocationConstraint": self._region}
                    self._s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
            except Exception as error:
                if _code(error) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise

    def save(self, file: File, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        with self._translated(f"save {file}", saving=True):
            try:
                self._put(file, view)
            except Exception as error:
                # Buckets with an object lock take nothing without it; some other servers don't know it.
                if self._with_checksum or not _wants_checksum(error):
                    raise
                self._with_checksum = True
                self._put(file, view)

    def _put(self, file: File, view: memoryview) -> None:
        extra: Any = {}
        if self._with_checksum:
            digest = bytes.fromhex(file.name) if file.name else hashlib.sha256(view).digest()
            extra["ChecksumSHA256"] = base64.b64encode(digest).decode()
        if self._storage_class:
            extra["StorageClass"] = self._storage_class
        self._s3.put_object(
            Bucket=self._address.bucket,
            Key=self._address.key(file.path),
            Body=cast("IO[bytes]", BufferReader(view)),
            ContentLength=len(view),
            ContentType="application/octet-stream",
            **extra,
        )

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        if length == 0:
            size = self.stat(file)
            if offset > size:
                raise self._short(file, size, offset, 0)
            return b""
        ranged: Any = {}
        if offset or length is not None:
            ranged["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        with self._translated(f"read {file}", file):
            try:
                answer = self._s3.get_object(Bucket=self._address.bucket, Key=self._address.key(file.path), **ranged)
            except Exception as error:
                if _code(error) in ("InvalidRange", "416"):
                    return self._beyond(file, offset, length)
                raise
            with contextlib.closing(answer["Body"]) as body:
                if ranged and answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
                    raise StorageError(f"{self._address.host} ignores ranges, which reading {file} needs")
                expected = answer["ContentLength"]
                if length is not None and expected < length:
                    raise self._short(file, offset + expected, offset, length)
                data = read_paced(body.read, expected if length is None else length, self._options.downloads)
        wanted = expected if length is None else length
        if len(data) != wanted:
            raise FileShort(f"{file} in {self.location} was cut on its way: {len(data)} of {wanted} bytes came")
        return data

    def stat(self, file: File) -> int:
        with self._translated(f"stat {file}", file):
            return self._s3.head_object(Bucket=self._address.bucket, Key=self._address.key(file.path))["ContentLength"]

    def list(self, kind: FileKind) -> Iterator[Listed]:
        if kind is FileKind.CONFIG:
            return
        prefix = self._address.key(f"{kind}/")
        operation: Any = "list_objects" if self._old_listing else "list_objects_v2"
        with self._translated(f"list {kind}"):
            for page in self._s3.get_paginator(operation).paginate(Bucket=self._address.bucket, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    name = entry["Key"].rpartition("/")[2]
                    if is_id(name) and entry["Key"] == self._address.key(File(kind, name).path):
                        yield Listed(name, entry["Size"])

    def delete(self, file: File) -> None:
        with self._translated(f"delete {file}", file, saving=True):
            self._s3.delete_object(Bucket=self._address.bucket, Key=self._address.key(file.path))

    def close(self) -> None:
        with self._guard:
            if self._client is not None:
                self._client.close()
                self._client = None

    @property
    def _s3(self) -> S3Client:
        with self._guard:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> S3Client:
        from lowtide_engine.storage.s3_client import connect

        return connect(
            self._address,
            self._options,
            region=self._region,
            addressing=self._addressing,
            connections=self.connections,
        )

    def _beyond(self, file: File, offset: int, length: int | None) -> bytes:
        """What a range that begins at or after the end gives: nothing where all to the end was asked for, else
        FileShort.
        """
        size = self.stat(file)
        if length is None and offset == size:
            return b""
        raise self._short(file, size, offset, length)

    def _short(self, file: File, size: int, offset: int, length: int | None) -> FileShort:
        asked = "the rest" if length is None else f"{length} bytes"
        return FileShort(
            f"{file} in {self.location} has {size} bytes, asked for {asked} from {offset}", retryable=False
        )

    @contextlib.contextmanager
    def _translated(self, doing: str, file: File | None = None, *, saving: bool = False) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            self._raise(error, doing, file, saving)

    def _raise(self, error: Exception, doing: str, file: File | None, saving: bool) -> NoReturn:
        """Translate boto's, botocore's and urllib3's errors. Those of this program itself go through as they are."""
        from botocore import exceptions as boto
        from urllib3.exceptions import HTTPError

        place = f"could not {doing} in {self.location}"
        match error:
            case boto.ClientError():
                raise self._answered(error, place, file, saving) from error
            case boto.NoCredentialsError() | boto.PartialCredentialsError() | boto.ProfileNotFound():
                raise CredentialsMissing(
                    f"{place}: {error}", hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
                ) from error
            case boto.SSLError():
                raise StorageError(
                    f"{place}: {error}", hint="for a CA of your own set RESTIC_CACERT or give --cacert", retryable=True
                ) from error
            case boto.ProxyConnectionError():
                # boto shows the URL, and hides the password only of one that it understands.
                raise StorageError(
                    f"{place}: the proxy could not be reached",
                    hint="HTTPS_PROXY or HTTP_PROXY names it, as http://host:port",
                    retryable=True,
                ) from None
            case boto.HTTPClientError(kwargs={"error": ValueError()}):
                # Nothing was sent. What boto says of it repeats the token or the URL.
                raise BadInput(
                    f"{place}: a key, a token or the URL of a proxy holds what can't be sent",
                    hint="look for a line break at its end, or a / in the proxy's password that is not written %2F",
                ) from None
            case boto.EndpointConnectionError() | boto.ConnectTimeoutError():
                # No connection, hence nothing was done.
                raise StorageError(f"{place}: {error}", retryable=True) from error
            case boto.HTTPClientError() | boto.IncompleteReadError() | boto.ResponseStreamingError() | HTTPError():
                raise StorageError(f"{place}: {error}", retryable=True, ambiguous=saving) from error
            case boto.BotoCoreError() | ConnectionError() | TimeoutError():
                raise StorageError(f"{place}: {error}", retryable=True, ambiguous=saving) from error
            case _:
                raise error

    def _answered(self, error: Exception, place: str, file: File | None, saving: bool) -> StorageError:
        code, status = _code(error), _status(error)
        said = _KEY_SHAPE.sub("…", _response(error).get("Error", {}).get("Message", ""))[:200]
        why = f"{code}, {said} (status {status})" if said else f"{code} (status {status})"
        if code == "NoSuchBucket" and file is None:
            return StorageError(f"{place}: there is no bucket {self._address.bucket}")
        if code in _MISSING and file is not None:
            return FileMissing(f"{file} is not in {self.location}")
        if code in _REFUSED or status in (401, 403):
            # A save that is refused may be the repetition of one that was done: some servers let nobody overwrite.
            return StorageRefused(f"{place}: {why}", ambiguous=saving, hint=_HINTS.get(code))
        if code in _FULL or status == 507:
            return StorageFull(f"{place}: {why}")
        passing = code in _PASSING or status in _PASSING_STATUS or status not in _FINAL_STATUS
        return StorageError(f"{place}: {why}", retryable=passing, ambiguous=saving, hint=_HINTS.get(code))


def open_s3(location: str, options: StorageOptions) -> S3Storage:
    """An S3 storage from restic's form of a location; opens no connection."""
    return S3Storage(S3Location.parse(location), options)


def _code(error: Exception) -> str:
    return str(_response(error).get("Error", {}).get("Code", ""))


def _status(error: Exception) -> int:
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _response(error: Exception) -> Mapping[str, Any]:
    """What the server answered, as boto read it; empty where there was no answer."""
    response = getattr(error, "response", None)
    return response if isinstance(response, dict) else {}


def _wants_checksum(error: Exception) -> bool:
    """Whether a save was refused for want of a checksum header, as buckets with an object lock do."""
    said = str(_response(error).get("Error", {}).get("Message", "")).lower()
    return _status(error) == 400 and ("content-md5" in said or "x-amz-checksum" in said)
