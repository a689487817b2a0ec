"""An index that takes minutes to arrive, over a slow line: a mover that fetches it is seen to go on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lowtide_engine.backup import BackupRequest, back_up
from lowtide_engine.reporting import NOT_BEGUN, Progress
from lowtide_engine.repository import LockedRepository, init_repository, open_repository
from lowtide_engine.restore import RestoreRequest, restore
from lowtide_engine.storage import File, FileKind
from lowtide_engine.storage.memory import MemoryStorage
from tests.conformance.pruning import FOREVER, Watching
from tests.fakes import FakeClock, FaultyStorage
from tests.unit.repository.conftest import CHEAP, PASSWORD

if TYPE_CHECKING:
    from lowtide_engine.reporting import Reporter


class SlowIndex(FaultyStorage):
    """An index file comes once somebody was told that the job has not begun yet."""

    def __init__(self, inner: MemoryStorage) -> None:
        super().__init__(inner)
        self.told = threading.Event()

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        assert file.kind is not FileKind.INDEX or self.told.wait(30), "nothing was told for half a minute"
        return super().load(file, offset, length)

    def hear(self, progress: Progress) -> None:
        if progress == NOT_BEGUN:
            self.told.set()


def backing_up(folder: Path) -> Callable[[LockedRepository, Reporter], object]:
    request = BackupRequest([os.fsencode(folder / "source")], "host", pack_size=4 << 20)
    return lambda locked, reporter: back_up(locked, request, reporter, FOREVER)


def restoring(folder: Path) -> Callable[[LockedRepository, Reporter], object]:
    request = RestoreRequest("latest", os.fsencode(folder / "target"))
    return lambda locked, reporter: restore(locked, request, reporter, FOREVER)


@pytest.mark.parametrize("job", [backing_up, restoring], ids=lambda job: job.__name__)
def test_it_is_told_that_the_index_is_being_fetched(
    job: Callable[[Path], Callable[[LockedRepository, Reporter], object]], tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    memory = MemoryStorage()
    with init_repository(memory, PASSWORD, clock=FakeClock(), kdf=CHEAP) as made, made.locked() as locked:
        backing_up(tmp_path)(locked, Watching())
    slow = SlowIndex(memory)
    with open_repository(slow, PASSWORD, clock=FakeClock()) as opened, opened.locked() as locked:
        job(tmp_path)(locked, Watching(slow.hear))
    assert slow.told.is_set()
