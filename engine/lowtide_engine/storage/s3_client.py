"""boto3's client, told what we want of it. The only module that imports boto3, and only when a connection is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

    from lowtide_engine.storage.options import StorageOptions
    from lowtide_engine.storage.s3_location import S3Location


def connect(
    address: S3Location, options: StorageOptions, *, region: str | None, addressing: str, connections: int
) -> S3Client:
    """A client for the endpoint. Credentials come from `options.environment` where it has them, else from where
    boto looks.

    That is: AWS_PROFILE, the shared files, and what a cloud gives its machines and pods (web identity, instance
    metadata).
    """
    environment = options.environment
    given: Any = {}
    profile = environment.get("AWS_PROFILE") or None
    if environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"):
        given = {
            "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
            "aws_session_token": environment.get("AWS_SESSION_TOKEN") or None,
        }
        profile = None
    settings: Any = {"addressing_style": addressing}
    # The location alone says where to go: AWS_ENDPOINT_URL is for others.
    beyond_the_stubs: Any = {"ignore_configured_endpoint_urls": True}
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
    session = boto3.session.Session(profile_name=profile)
    client: S3Client = session.client(
        "s3",
        endpoint_url=address.endpoint,
        use_ssl=address.tls,
        verify=verify,
        config=config,
        **given,
    )
    return client
