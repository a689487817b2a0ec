"""Fixtures that tests of every kind may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.rest import RestServer, rest_server
from tests.s3 import S3Server, s3_server
from tests.sshd import SshServer, ssh_server

# How long an example takes is the machine's affair, which may have other things to do.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", name="s3_server")
def _s3_server() -> Iterator[S3Server]:
    """An S3 server on loopback with one bucket; each test takes a path or a bucket of its own."""
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session", name="ssh_server")
def _ssh_server() -> Iterator[SshServer]:
    """An SSH server on loopback; each test takes a path of its own."""
    with ssh_server() as server:
        yield server


@pytest.fixture(scope="session", name="rest_server")
def _rest_server() -> Iterator[RestServer]:
    """A REST server on loopback; each test takes a path of its own."""
    with rest_server() as server:
        yield server
