"""One file that the storage can't give, while it gives all others: it costs what it holds, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lowtide_engine.errors import FileUnreadable, StorageError
from lowtide_engine.packing import Entry, entries_of
from lowtide_engine.repair_index import repair_index
from lowtide_engine.repair_packs import repair_packs
from lowtide_engine.repository import IndexedRepository, lock
from lowtide_engine.restore import RestoreRequest, restore
from lowtide_engine.storage import File, FileKind
from lowtide_engine.storage.local import LocalStorage
from lowtide_engine.storage.retry import Retrying
from tests.conformance.actors import Lowtide
from tests.conformance.pruning import FOREVER, Watching, check_at, exclusive, storage_at
from tests.conformance.quick import make_repository
from tests.fakes import FakeClock

NAMES = ("one", "two")


class BadSector(LocalStorage):
    """A folder where what touches the byte `at` of the pack `broken` fails."""

    def __init__(self, root: Path, broken: str, at: int, error: StorageError) -> None:
        super().__init__(root)
        self.broken, self.at, self.error = broken, at, error

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        data = super().load(file, offset, length)
        if file.name == self.broken and offset <= self.at < offset + len(data):
            raise self.error
        return data


class Restoring(Watching):
    def item_done(self, path: bytes, action: str, size: int) -> None: ...


@pytest.fixture(
    params=[StorageError("status 500", retryable=True), FileUnreadable("Input/output error", retryable=True)],
    ids=["a server", "a disk"],
)
def broken(
    request: pytest.FixtureRequest, lowtide: Lowtide, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> BadSector:
    """Two backups, the second of whose packs of data fails at byte 100."""
    monkeypatch.setattr(lock, "SECOND_LOOK_AFTER", 0.0)
    make_repository(place)
    packs: list[set[str]] = []
    for name in NAMES:
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / name).write_bytes(os.urandom(300_000))
        lowtide.backup(tmp_path / "source")
        packs.append({listed.name for listed in storage_at(Path(place)).list(FileKind.DATA) if listed.size > 100_000})
    (pack,) = packs[1] - packs[0]
    return BadSector(Path(place), pack, 100, request.param)


def retrying(broken: BadSector) -> Retrying:
    return Retrying(broken, FakeClock())


def named(indexed: IndexedRepository) -> dict[str, list[Entry]]:
    """Every pack, with what the index says that it holds."""
    return {pack: entries_of(indexed.index.pack_entries(pack)) for pack in indexed.index.packs()}


def test_a_restore_lacks_the_file_and_has_all_others(broken: BadSector, tmp_path: Path) -> None:
    watching = Restoring()
    request = RestoreRequest(f"latest:{tmp_path}/source", os.fsencode(tmp_path / "target"))
    with exclusive(retrying(broken)) as locked:
        report = restore(locked, request, watching, FOREVER)
    assert report.errors == 1
    assert broken.error.message in watching.problems[0]
    assert (tmp_path / "target" / "one").read_bytes() == (tmp_path / "source" / "one").read_bytes()


def test_a_check_names_the_pack_and_reads_all_others(broken: BadSector) -> None:
    report, problems = check_at(retrying(broken))
    assert report.broken_packs == [broken.broken]
    assert [broken.error.message in problem for problem in problems] == [True]


def test_the_rest_of_the_pack_is_saved(broken: BadSector, tmp_path: Path) -> None:
    watching = Watching()
    with exclusive(retrying(broken)) as locked:
        held = locked.load_index().index.pack_entries(broken.broken)
        repair = repair_packs(locked, [broken.broken], tmp_path, watching, FOREVER)
    (lost,) = [(entry.kind, entry.blob) for entry in held if entry.offset <= 100 < entry.offset + entry.length]
    assert (repair.lost, repair.saved) == ([lost], len(held) - 1)
    kept = (tmp_path / f"pack-{broken.broken}").read_bytes()
    assert len(kept) > 200_000
    assert kept[: 64 * 1024] == bytes(64 * 1024)


@pytest.mark.parametrize("read_all", [False, True], ids=["what it lacks", "all packs"])
def test_what_the_index_says_of_a_pack_outlives_its_repair(broken: BadSector, place: str, read_all: bool) -> None:
    """Its header is what can't be read: the index alone still tells what is in it."""
    (size,) = [listed.size for listed in broken.list(FileKind.DATA) if listed.name == broken.broken]
    broken.at = size - 1
    if not read_all:
        # Longer than the index has it, so that it is looked at.
        broken.at = size
        with (Path(place) / "data" / broken.broken[:2] / broken.broken).open("ab") as pack:
            pack.write(b"x")
    with exclusive(broken) as locked:
        before = named(locked.load_index())
    watching = Watching()

    with exclusive(retrying(broken)) as locked:
        repair = repair_index(locked, watching, FOREVER, read_all=read_all)

    assert repair.withheld == [broken.broken]
    assert repair.unreadable == []
    assert [broken.broken in notice and broken.error.message in notice for notice in watching.notices] == [True]
    with exclusive(broken) as locked:
        assert named(locked.load_index()) == before


def test_a_pack_that_no_index_names_is_passed_over_until_it_can_be_read(broken: BadSector, place: str) -> None:
    (size,) = [listed.size for listed in broken.list(FileKind.DATA) if listed.name == broken.broken]
    broken.at = size - 1
    shutil.rmtree(Path(place) / "index")
    packs = {listed.name for listed in broken.list(FileKind.DATA)}

    with exclusive(retrying(broken)) as locked:
        assert repair_index(locked, Watching(), FOREVER).withheld == [broken.broken]
    with exclusive(storage_at(Path(place))) as locked:
        assert {*locked.load_index().index.packs()} == packs - {broken.broken}
        assert repair_index(locked, Watching(), FOREVER).added == [broken.broken]
    assert check_at(Path(place))[1] == []


def test_an_index_file_goes_once_the_packs_have_said_what_it_said(broken: BadSector, place: str) -> None:
    names = {listed.name for listed in broken.list(FileKind.INDEX)}
    broken.broken = min(names)
    with exclusive(retrying(broken)) as locked:
        repair = repair_index(locked, Watching(), FOREVER)
    assert repair.damaged_indexes == [broken.broken]
    assert broken.broken not in {listed.name for listed in broken.list(FileKind.INDEX)}
    assert check_at(Path(place))[1] == []
