"""Two programs that create a repository in one place at the same time: one repository comes of it, and one key."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lowtide_engine.errors import RepositoryDamaged, RepositoryExists
from lowtide_engine.repository import Password, init_repository, open_repository
from lowtide_engine.repository.keys import KdfParameters, save_key
from lowtide_engine.repository.sealing import MasterKey
from lowtide_engine.storage import CONFIG, File, FileKind
from lowtide_engine.storage.memory import MemoryStorage
from tests.fakes import FakeClock

if TYPE_CHECKING:
    from typing_extensions import Buffer

PASSWORD = Password("geheim")
CHEAP = KdfParameters(n=128, r=1, p=1)


class Together(MemoryStorage):
    """Two callers meet before they store a key and before they store a config, so that neither saw the other's, and
    after it.
    """

    def __init__(self) -> None:
        super().__init__("together")
        self.meet = threading.Barrier(2, timeout=30)

    def save(self, file: File, data: Buffer) -> None:
        if file == CONFIG or file.kind is FileKind.KEY:
            self.meet.wait()
        super().save(file, data)
        if file == CONFIG:
            self.meet.wait()


def create(storage: MemoryStorage) -> str:
    try:
        return init_repository(storage, PASSWORD, clock=FakeClock(), kdf=CHEAP).id
    except RepositoryExists:
        return ""


def test_one_of_two_creates_it_and_the_other_takes_its_key_back() -> None:
    storage = Together()
    with ThreadPoolExecutor(2) as pool:
        made = [*pool.map(create, (storage, storage))]
    created = [found for found in made if found]
    assert len(created) == 1
    assert len([*storage.list(FileKind.KEY)]) == 1
    assert open_repository(storage, PASSWORD, clock=FakeClock()).id == created[0]


def test_a_config_that_came_while_the_key_was_derived_is_left_alone() -> None:
    class Late(MemoryStorage):
        def save(self, file: File, data: Buffer) -> None:
            super().save(file, data)
            if file.kind is FileKind.KEY:
                super().save(CONFIG, b"somebody else's")

    storage = Late("late")
    with pytest.raises(RepositoryExists):
        init_repository(storage, PASSWORD, clock=FakeClock(), kdf=CHEAP)
    assert storage.load(CONFIG) == b"somebody else's"
    assert [*storage.list(FileKind.KEY)] == []


def test_a_key_without_a_config_of_its_own_hinders_nobody() -> None:
    storage = MemoryStorage("left")
    repository = init_repository(storage, PASSWORD, clock=FakeClock(), kdf=CHEAP)
    for _ in range(4):
        save_key(storage, MasterKey.generate(), PASSWORD, kdf=CHEAP)
    assert open_repository(storage, PASSWORD, clock=FakeClock()).id == repository.id
    storage.save(CONFIG, MasterKey.generate().seal(repository.config.encode()))
    with pytest.raises(RepositoryDamaged, match="config"):
        open_repository(storage, PASSWORD, clock=FakeClock())
