"""What a command makes of its run of the kernel: how many packs it stores at a time, that attempts which fail cost it
nothing, and how it ends where the kernel dies.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lowtide_engine import _kernel
from lowtide_engine.cli.signals import stop
from lowtide_engine.errors import StorageError
from lowtide_engine.repository import open_repository
from lowtide_engine.repository.password import Password
from lowtide_engine.storage import File, FileKind, StorageOptions, SystemClock, open_storage, registry
from lowtide_engine.storage.local import LocalStorage
from lowtide_engine.transfer import UPLOADS, RunFailed
from tests.conformance.actors import PASSWORD
from tests.unit.cli.conftest import Run

if TYPE_CHECKING:
    from typing_extensions import Buffer

PACK = 4 << 20


class Meeting(LocalStorage):
    """No pack is stored before `meeting` of them are being stored. Gives up after a minute, as the test then does."""

    meeting = 0
    most = 0
    now = 0
    guard = threading.Condition()

    def save(self, file: File, data: Buffer) -> None:
        if file.kind is not FileKind.DATA:
            super().save(file, data)
            return
        with self.guard:
            Meeting.now += 1
            Meeting.most = max(self.most, self.now)
            self.guard.notify_all()
            self.guard.wait_for(lambda: self.most >= self.meeting, 60)
        super().save(file, data)
        with self.guard:
            Meeting.now -= 1


def open_meeting(address: str, options: StorageOptions) -> LocalStorage:
    return Meeting(Path(address), options.connections or 2)


class Clinging(LocalStorage):
    """Stores each pack at the second attempt. The traceback of the first holds its bytes in a cycle, as those of many
    libraries do: nobody but the garbage collector finds them.
    """

    attempted: set[File]

    def save(self, file: File, data: Buffer) -> None:
        if file.kind is FileKind.DATA and file not in self.attempted:
            self.attempted.add(file)
            view = memoryview(data)
            failure = StorageError(f"the connection was lost before {view.nbytes} bytes were sent", retryable=True)
            raise failure
        super().save(file, data)


def open_clinging(address: str, options: StorageOptions) -> LocalStorage:
    return Clinging(Path(address), options.connections or 2)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Garbage stays where nobody asks for its collection."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(("asked", "expected"), [(None, UPLOADS), (1, 1), (6, 6)])
def test_as_many_packs_are_stored_at_a_time_as_connections_are_asked_for(
    lowtide: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int | None, expected: int
) -> None:
    (tmp_path / "source").write_bytes(os.urandom(10 * PACK))
    monkeypatch.setitem(registry.SCHEMES, "local", f"{__name__}:open_meeting")
    monkeypatch.setattr(Meeting, "meeting", expected)
    monkeypatch.setattr(Meeting, "most", 0)
    option = [] if asked is None else ["-o", f"local.connections={asked}"]
    assert lowtide("backup", tmp_path / "source", "--pack-size", "4", "-q", *option).outcome == "ok"
    assert Meeting.most == expected


@pytest.mark.usefixtures("no_collector")
def test_packs_whose_first_attempt_failed_are_not_waited_for_for_ever(
    lowtide: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(os.urandom(10 * PACK))
    monkeypatch.setitem(registry.SCHEMES, "local", f"{__name__}:open_clinging")
    monkeypatch.setattr(Clinging, "attempted", set(), raising=False)
    giving_up = threading.Timer(60, stop.set)
    giving_up.start()
    assert lowtide("backup", tmp_path / "source", "--pack-size", "4", "-q").outcome == "ok"
    giving_up.cancel()
    assert len(Clinging.attempted) > 5


def test_a_kernel_that_dies_ends_the_command_with_what_it_said(
    lowtide: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "the kernel's thread hasher died, which is a bug; it said: injected"

    class Dying:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def progress(self) -> None:
            pass

        def cancel(self) -> None:
            pass

        def next(self, _: float) -> None:
            raise _kernel.KernelError(said)

    monkeypatch.setattr(_kernel, "Backup", Dying)
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(RunFailed, match="injected"):
        lowtide("backup", tmp_path / "source", "-q")
    with open_repository(open_storage(str(tmp_path / "repository")), Password(PASSWORD), clock=SystemClock()) as after:
        assert [*after.storage.list(FileKind.LOCK)] == [*after.storage.list(FileKind.SNAPSHOT)] == []


@pytest.mark.parametrize(("option", "verified"), [((), True), (("--no-extra-verify",), False)])
def test_what_is_sealed_is_opened_again_before_it_leaves_unless_switched_off(
    lowtide: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...], verified: bool
) -> None:
    asked = []
    real = _kernel.Backup

    def backup(*arguments: Any, verify: bool, **named: Any) -> _kernel.Backup:
        asked.append(verify)
        return real(*arguments, verify=verify, **named)

    monkeypatch.setattr(_kernel, "Backup", backup)
    (tmp_path / "source").write_bytes(b"x")
    assert lowtide("backup", tmp_path / "source", "-q", *option).outcome == "ok"
    assert asked == [verified]
