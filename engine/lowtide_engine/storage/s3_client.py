"""boto3's client, told what we want of it. The only module that imports boto3, and only when a connection is needed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.session import get_session

from lowtide_engine.errors import BadInput
from lowtide_engine.storage.pacing import UNLIMITED, BufferReader, Pace

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3.client import S3Client

    from lowtide_engine.storage.options import StorageOptions
    from lowtide_engine.storage.s3_location import S3Location

_ROLE = "RESTIC_AWS_ASSUME_ROLE"
ROLE_VARIABLE = f"{_ROLE}_ARN"
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def connect(
    address: S3Location, options: StorageOptions, *, region: str | None, addressing: str, connections: int
) -> S3Client:
    """A client for the endpoint. Credentials come from `options.environment` where it has them, else from where
    boto looks.

    That is: AWS_PROFILE, the shared files, and what a cloud gives its machines and pods (web identity, instance
    metadata). RESTIC_AWS_ASSUME_ROLE_ARN names a role to assume with them.
    """
    environment = options.environment
    for name in _KEYS:
        if not environment.get(name, "").isprintable():
            raise BadInput(
                f"{name} holds a line break, or another control character", hint="a file that `echo` made ends with one"
            )
    given: Any = {}
    profile = environment.get("AWS_PROFILE") or None
    key, secret, token = (environment.get(name) or None for name in _KEYS)
    if key and secret:
        given = {"aws_access_key_id": key, "aws_secret_access_key": secret, "aws_session_token": token}
        profile = None
    settings: Any = {"addressing_style": addressing}
    # The location alone says where to go: AWS_ENDPOINT_URL is for others.
    beyond_the_stubs: Any = {"ignore_configured_endpoint_urls": True}
    if options.client_certificate is not None:
        beyond_the_stubs["client_cert"] = tuple(map(str, options.client_certificate))
    config = Config(
        region_name=region,
        s3=settings,
        max_pool_connections=connections + 2,
        connect_timeout=options.connect_timeout,
        read_timeout=options.stuck_timeout,
        retries={"total_max_attempts": 1, "mode": "standard"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        tcp_keepalive=True,
        **beyond_the_stubs,
    )
    verify: bool | str | None = None
    if options.insecure_tls:
        verify = False
    elif options.ca_file is not None:
        verify = str(options.ca_file)
    session = boto3.session.Session(profile_name=profile, **given)
    if role := environment.get(ROLE_VARIABLE):
        session = _in_the_role(session, role, environment)
    client: S3Client = session.client(
        "s3",
        endpoint_url=address.endpoint,
        use_ssl=address.tls,
        verify=verify,
        config=config,
    )
    if options.uploads is not UNLIMITED:
        client.meta.events.register("before-send.s3", lambda request, **_: _set_pace(request, options.uploads))
    return client


def _in_the_role(session: boto3.session.Session, role: str, environment: Mapping[str, str]) -> boto3.session.Session:
    """A session that has assumed `role` by the credentials of this one, and does so again before they expire; with
    restic's variables.
    """
    extra = {"RoleSessionName": environment.get(f"{_ROLE}_SESSION_NAME") or "lowtide"}
    for argument, variable in (("ExternalId", "EXTERNAL_ID"), ("Policy", "POLICY")):
        if value := environment.get(f"{_ROLE}_{variable}"):
            extra[argument] = value
    source = session.get_credentials()
    if source is None:
        raise NoCredentialsError
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=partial(
            session.client,
            region_name=environment.get(f"{_ROLE}_REGION") or session.region_name or "us-east-1",
            endpoint_url=environment.get(f"{_ROLE}_STS_ENDPOINT") or None,
        ),
        source_credentials=source,
        role_arn=role,
        extra_args=extra,
    )
    assumed = get_session()
    # botocore has no public way to give a session credentials that refresh themselves.
    assumed._credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")  # type: ignore[attr-defined]
    return boto3.session.Session(botocore_session=assumed)


def _set_pace(request: AWSPreparedRequest, pace: Pace) -> None:
    """What has been read up to now was read to sign it; from here on it is sent."""
    if isinstance(request.body, BufferReader):
        request.body.pace = pace
