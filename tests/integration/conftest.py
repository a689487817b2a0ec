"""Fixtures of the integration tests: a real API server, without nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane, control_plane


@pytest.fixture(scope="session", name="control_plane")
def _control_plane() -> Iterator[ControlPlane]:
    """An API server with etcd and the controller manager. A test that kills or stops it starts it again before it
    ends."""
    with control_plane() as plane:
        yield plane


@pytest.fixture
def kubeconfig(control_plane: ControlPlane) -> Path:
    """A kubeconfig with all rights on the API server of `control_plane`."""
    return control_plane.kubeconfig
