"""A small repository in memory, whose keys are cheap to derive."""

from __future__ import annotations

import pytest

from lowtide_engine.repository import KdfParameters, Password, Repository, init_repository
from lowtide_engine.storage import Storage
from lowtide_engine.storage.memory import MemoryStorage
from tests.fakes import FakeClock

CHEAP = KdfParameters(128, 1, 1)
PASSWORD = Password("geheim")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def storage() -> Storage:
    return MemoryStorage()


@pytest.fixture
def repository(storage: Storage, clock: FakeClock) -> Repository:
    return init_repository(storage, PASSWORD, clock=clock, kdf=CHEAP)
