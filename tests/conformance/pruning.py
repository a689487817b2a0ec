"""A repository with something of everything that a prune meets, and storages that die or change under it."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lowtide_engine.check import CheckReport, check
from lowtide_engine.errors import StorageError
from lowtide_engine.prune import Pruned, prune
from lowtide_engine.prune_plan import PruneOptions
from lowtide_engine.reporting import Progress
from lowtide_engine.repository import LockedRepository, Password, Repository, open_repository
from lowtide_engine.storage import (
    File,
    FileKind,
    Listed,
    Storage,
    SystemClock,
    find_location,
    open_storage,
    options_from_environment,
)
from lowtide_engine.subset import Subset
from tests.conformance.actors import PASSWORD, Restic

if TYPE_CHECKING:
    from typing_extensions import Buffer

PACK_SIZE = 64 * 1024
CLEAN = PruneOptions(max_unused_share=0.0, pack_size=PACK_SIZE)
FOREVER = threading.Event()


class DyingStorage:
    """A storage of a process that is killed at its `last + 1`st change of the repository: that one is not done, and
    nothing works any more. Locks are left out of it, as if somebody had removed them afterwards.
    """

    def __init__(self, inner: Storage, last: int) -> None:
        self._inner = inner
        self._left = last
        self._guard = threading.Lock()
        self.died = False
        self.location = inner.location
        self.connections = inner.connections
        self.create = inner.create
        self.close = inner.close

    def save(self, file: File, data: Buffer) -> None:
        self._change(file, lambda: self._inner.save(file, data))

    def delete(self, file: File) -> None:
        self._change(file, lambda: self._inner.delete(file))

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        self._refuse_dead(file.kind)
        return self._inner.load(file, offset, length)

    def stat(self, file: File) -> int:
        self._refuse_dead(file.kind)
        return self._inner.stat(file)

    def list(self, kind: FileKind) -> Iterator[Listed]:
        self._refuse_dead(kind)
        return self._inner.list(kind)

    def _change(self, file: File, change: Callable[[], None]) -> None:
        with self._guard:
            if file.kind is not FileKind.LOCK:
                self.died = self.died or self._left == 0
                self._refuse_dead(file.kind)
                self._left -= 1
            change()

    def _refuse_dead(self, kind: FileKind) -> None:
        if self.died and kind is not FileKind.LOCK:
            raise StorageError("the process was killed")


class Watching:
    """A reporter that keeps what it is told. `on_progress` is called at each progress."""

    def __init__(self, on_progress: Callable[[Progress], None] | None = None) -> None:
        self.problems: list[str] = []
        self.notices: list[str] = []
        self._on_progress = on_progress

    def progress(self, progress: Progress) -> None:
        if self._on_progress is not None:
            self._on_progress(progress)

    def item_error(self, path: bytes, during: str, message: str) -> None:
        self.problems.append(message)

    def item_done(self, path: bytes, action: str, size: int) -> None:
        raise AssertionError("a prune works on no items")

    def problem(self, kind: str, message: str) -> None:
        self.problems.append(message)

    def warn(self, text: str) -> None:
        self.notices.append(text)

    def notice(self, message: str) -> None:
        self.notices.append(message)


def storage_at(place: Path) -> Storage:
    environment = {"RESTIC_REPOSITORY": str(place)}
    return open_storage(find_location(None, environment), options_from_environment(environment))


def opened(storage: Storage, password: str = PASSWORD) -> Repository:
    return open_repository(storage, Password(password), clock=SystemClock())


@contextmanager
def exclusive(storage: Storage, password: str = PASSWORD) -> Iterator[LockedRepository]:
    with opened(storage, password) as repository, repository.locked(exclusive=True) as locked:
        yield locked


def prune_at(
    storage: Storage | Path,
    options: PruneOptions = CLEAN,
    *,
    reporter: Watching | None = None,
    stop: threading.Event = FOREVER,
    password: str = PASSWORD,
    dry_run: bool = False,
    allow_empty: bool = False,
) -> Pruned:
    """Open, lock and prune."""
    where = storage_at(storage) if isinstance(storage, Path) else storage
    with exclusive(where, password) as locked:
        return prune(locked, options, reporter or Watching(), stop, dry_run=dry_run, allow_empty=allow_empty)


def check_at(place: Path | Storage, *, unused: bool = False, password: str = PASSWORD) -> tuple[CheckReport, list[str]]:
    """Lowtide's own check, of every byte."""
    watching = Watching()
    with exclusive(storage_at(place) if isinstance(place, Path) else place, password) as locked:
        report = check(locked, watching, FOREVER, read_data=Subset(), check_unused=unused)
    return report, watching.problems


def files(place: Path) -> dict[str, str]:
    """Every file but locks, with the hash of its content."""
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file() and "locks" not in path.parts
    }


def write_source(folder: Path, *, seed: int, names: range, size: int = 60_000) -> None:
    """Files of random bytes, each one blob; those of the same seed and name are equal."""
    for number in names:
        path = folder / f"d{number % 3}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(f"{seed} {number}").randbytes(size))


def fill(restic: Restic, folder: Path) -> None:
    """Four backups of which two are forgotten again, so that one pack is unneeded and others in part; and a pack that
    no index names."""
    source = folder / "source"
    write_source(source, seed=1, names=range(7))
    first = _backup(restic, source)
    write_source(source, seed=2, names=range(4))
    _backup(restic, source)
    write_source(source, seed=3, names=range(2, 5))
    _backup(restic, source)
    other = folder / "other"
    write_source(other, seed=9, names=range(2))
    restic.run("forget", "--no-cache", first, _backup(restic, other))
    stray = random.Random("stray").randbytes(1000)
    name = hashlib.sha256(stray).hexdigest()
    storage_at(Path(restic.repository)).save(File(FileKind.DATA, name), stray)


def _backup(restic: Restic, source: Path) -> str:
    return str(restic.backup("--no-cache", source)["snapshot_id"])
