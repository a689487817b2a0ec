"""What an S3 location and its options mean, apart from any connection (restic's forms of it)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from lowtide_engine.errors import BadInput

OPTIONS = ("bucket-lookup", "region", "list-objects-v1", "storage-class")
GOOGLE = "storage.googleapis.com"
"""Google Cloud Storage by its S3 interface, with an HMAC key of a service account."""
_ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")
_LOOKUPS = ("auto", "dns", "path")
_AMAZON = re.compile(r"s3(?:[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d))?\.amazonaws\.com(?:\.cn)?")
_HOST = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_FORMS = "s3:https://host/bucket/prefix or s3:host/bucket/prefix"


@dataclass(frozen=True, slots=True)
class S3Location:
    """Where the objects are. `endpoint` is a URL, or "" for Amazon's own (then the region decides); `prefix` has no
    slash at its ends.
    """

    host: str
    tls: bool
    bucket: str
    prefix: str
    amazon: bool
    region: str = ""

    @classmethod
    def parse(cls, location: str) -> S3Location:
        """Read `s3:https://host/bucket/prefix`, `s3:host/bucket/prefix` or `s3://host/bucket/prefix`; BadInput says
        what is missing.
        """
        rest = location.removeprefix("s3:")
        tls = True
        if rest.startswith(("http://", "https://")):
            scheme, _, address = rest.partition("://")
            host, _, path = address.partition("/")
            tls, path = scheme == "https", unquote(path.partition("?")[0]).lstrip("/")
        else:
            host, _, path = rest.removeprefix("//").partition("/")
        if host and not _HOST.fullmatch(host):
            # Not repeated: what stands there may be a password.
            raise BadInput(
                "the S3 location's host is none, or holds credentials",
                hint=f"write {_FORMS}, and give keys as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
        bucket, _, prefix = path.partition("/")
        if not host or not bucket:
            raise BadInput(f"the S3 location names no {'bucket' if host else 'host'}", hint=f"write {_FORMS}")
        prefix = posixpath.normpath(prefix).strip("/") if prefix.strip("/") else ""
        if prefix in (".", "..") or prefix.startswith("../"):
            raise BadInput("the S3 location's prefix leaves the bucket", hint=f"write {_FORMS}")
        amazon = _AMAZON.fullmatch(host)
        return cls(host, tls, bucket, prefix, amazon is not None, (amazon[1] or "") if amazon else "")

    @property
    def endpoint(self) -> str | None:
        """The URL to talk to; None for Amazon's own, where the client finds it by region."""
        return None if self.amazon else f"{'https' if self.tls else 'http'}://{self.host}"

    def __str__(self) -> str:
        base = f"s3:{'https' if self.tls else 'http'}://{self.host}/{self.bucket}"
        return f"{base}/{self.prefix}" if self.prefix else base

    def key(self, path: str) -> str:
        """The object's key for a path below the repository."""
        return f"{self.prefix}/{path}" if self.prefix else path


def addressing(lookup: str) -> str:
    """boto's word for restic's `s3.bucket-lookup`; `auto` is by host name at Amazon and by path elsewhere, as
    restic has it.
    """
    if lookup not in _LOOKUPS:
        raise BadInput(f"s3.bucket-lookup is one of {', '.join(_LOOKUPS)}, not {lookup!r}")
    return {"auto": "auto", "dns": "virtual", "path": "path"}[lookup]


def region_of(location: S3Location, options: Mapping[str, str], environment: Mapping[str, str]) -> str | None:
    """The region to sign for: -o s3.region, the host's name, the environment; "auto" for Google's, us-east-1 for a
    server of one's own; else None.
    """
    for value in (
        options.get("region"),
        location.region,
        environment.get("AWS_REGION"),
        environment.get("AWS_DEFAULT_REGION"),
    ):
        if value:
            return value
    if location.amazon:
        return None
    return "auto" if location.host == GOOGLE else "us-east-1"


def storage_class(name: str) -> str:
    """The storage class of `s3.storage-class`, for every file; archive classes are refused.

    What is in an archive can't be read at once, and packs that hold trees must be, as must everything but data; a
    storage doesn't see which packs do.
    """
    if name.upper() in _ARCHIVES:
        raise BadInput(
            f"storage class {name} is an archive, from which a repository can't be read",
            hint="use one that is read at once, such as STANDARD_IA or GLACIER_IR",
        )
    return name
