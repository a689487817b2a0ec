"""How long commands wait for the second look at the locks, and what they do where it finds a conflict."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lowtide_engine.cli.session import AGAIN_AFTER, Session
from lowtide_engine.errors import RepositoryLocked
from lowtide_engine.repository import Holder, Instant, LockFile, Repository, open_repository
from lowtide_engine.repository.lock import SECOND_LOOK_AFTER
from lowtide_engine.repository.password import Password
from lowtide_engine.storage import File, FileKind, SystemClock, open_storage
from tests.conformance.actors import PASSWORD
from tests.fakes import FakeClock
from tests.unit.cli.conftest import Run

OTHER = Holder("another", "prune", 7, 0, 0, "pid:[2]")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Whose time is that of the sessions."""
    made = FakeClock()
    monkeypatch.setattr(Session, "clock", made)
    return made


@pytest.fixture
def repository(lowtide: Run, tmp_path: Path) -> Repository:
    """As somebody else has it open."""
    return open_repository(open_storage(str(tmp_path / "repository")), Password(PASSWORD), clock=SystemClock())


class Rival:
    """Comes with an exclusive lock while we wait for our second look, `times` times, and goes while we wait for it."""

    def __init__(self, repository: Repository, clock: FakeClock, times: int) -> None:
        self.repository, self.clock, self.times = repository, clock, times
        self.lock = ""

    def __call__(self, seconds: float) -> None:
        if seconds == SECOND_LOOK_AFTER and self.times > 0:
            self.times -= 1
            lock = LockFile(Instant.at(self.clock.now()), exclusive=True, holder=OTHER)
            self.lock = self.repository.files.save(FileKind.LOCK, lock.encode())
        elif seconds == AGAIN_AFTER and self.lock:
            self.repository.storage.delete(File(FileKind.LOCK, self.lock))
            self.lock = ""


def kept(repository: Repository, kind: FileKind) -> int:
    return len([*repository.storage.list(kind)])


def test_a_backup_whose_second_look_finds_a_conflict_is_done_again(
    lowtide: Run, repository: Repository, clock: FakeClock, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(b"content")
    clock.on_sleep = Rival(repository, clock, times=3)
    result = lowtide("backup", tmp_path / "source", tmp_path / "missing", "--retry-lock", "1m")
    assert (result.outcome, result.errors, len(result.warnings)) == ("partial", 1, 1), "nothing is told of twice"
    assert clock.slept.count(SECOND_LOOK_AFTER) == 4
    assert kept(repository, FileKind.SNAPSHOT) == kept(repository, FileKind.INDEX) == 1
    assert kept(repository, FileKind.LOCK) == 0


@pytest.mark.parametrize("patience", [(), ("--retry-lock", "20s")], ids=["none", "20 s"])
def test_a_conflict_that_goes_on_ends_it_after_its_time(
    lowtide: Run, repository: Repository, clock: FakeClock, tmp_path: Path, patience: tuple[str, ...]
) -> None:
    (tmp_path / "source").write_bytes(b"content")
    clock.on_sleep = Rival(repository, clock, times=1000)
    began = clock.monotonic()
    with pytest.raises(RepositoryLocked):
        lowtide("backup", tmp_path / "source", *patience)
    assert clock.monotonic() - began == pytest.approx(20 if patience else 0, abs=2 * SECOND_LOOK_AFTER)
    assert kept(repository, FileKind.DATA) == kept(repository, FileKind.SNAPSHOT) == 0


@pytest.mark.parametrize("patience", [(), ("--retry-lock", "1m")], ids=["none", "1 min"])
def test_what_writes_nothing_does_not_wait_for_a_second_look(
    lowtide: Run, repository: Repository, clock: FakeClock, patience: tuple[str, ...]
) -> None:
    over = threading.Event()
    waited: list[bool] = []
    clock.on_sleep = lambda _: waited.append(over.wait(20))
    assert lowtide("preflight", *patience).outcome == "ok"
    assert (waited, kept(repository, FileKind.LOCK)) == ([], 0)
    over.set()
