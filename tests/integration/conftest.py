"""Fixtures of the integration tests: a real API server, without nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane, control_plane
from tests.integration.operator_world.world import World, world


@pytest.fixture(scope="session", name="control_plane")
def _control_plane() -> Iterator[ControlPlane]:
    """An API server with etcd and the controller manager. A test that kills or stops it starts it again before it
    ends."""
    with control_plane() as plane:
        yield plane


@pytest.fixture(scope="module", name="shared")
def _shared(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One namespace with an operator, for all tests of a file."""
    with world(control_plane, tmp_path_factory.mktemp("world")) as made:
        made.operator.start()
        yield made


@pytest.fixture
def shop(shared: World) -> Iterator[World]:
    """What the tests of a file share; every test has a pen of its own in it. Movers that back up start when the test
    says so."""
    shared.hold_movers("backup")
    yield shared
    shared.let_movers_start()


@pytest.fixture
def kubeconfig(control_plane: ControlPlane) -> Path:
    """A kubeconfig with all rights on the API server of `control_plane`."""
    return control_plane.kubeconfig
