"""What a restore does when the storage fails: an outage ends it, a single refusal costs the files that it concerns."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lowtide_engine import _kernel as kernel
from lowtide_engine.errors import EngineError, RepositoryDamaged, StorageError, StorageRefused
from lowtide_engine.transfer import Transfer
from tests.unit.kernel.runs import Made


class Indexed:
    """A repository whose data packs fail in one way."""

    lock = None
    repository = SimpleNamespace(storage=SimpleNamespace(connections=5))

    def __init__(self, made: Made, error: EngineError) -> None:
        self.made, self.error, self.asked = made, error, 0

    def load_piece(self, pack: str, offset: int, length: int, kind: str) -> bytes:
        if kind == "tree":
            return self.made.read(pack, offset, length)
        self.asked += 1
        raise self.error


class Reporter:
    def __init__(self) -> None:
        self.errors: list[bytes] = []

    def progress(self, progress: object) -> None: ...
    def item_done(self, path: bytes, action: str, size: int) -> None: ...

    def item_error(self, path: bytes, during: str, message: str) -> None:
        self.errors.append(path)


def transfer(error: EngineError, target: Path) -> tuple[Any, Indexed, Reporter]:
    made = Made()
    # Far apart, so that each is a question of its own.
    tree = made.tree(*(made.file(f"{n:03}", bytes([n]) * 300_000) for n in range(40)))
    made.seal()
    indexed, reporter = Indexed(made, error), Reporter()
    run = kernel.Restore(made.key, made.index, tree=tree, target=bytes(target))
    return Transfer(run, indexed, reporter, threading.Event()), indexed, reporter  # type: ignore[arg-type]


def test_an_outage_ends_a_restore_at_once(tmp_path: Path) -> None:
    moving, indexed, _ = transfer(StorageError("nobody answers", retryable=True), tmp_path)
    with pytest.raises(StorageError, match="nobody answers"):
        moving.drive()
    assert indexed.asked <= 16


@pytest.mark.parametrize("error", [RepositoryDamaged("the pack is gone"), StorageRefused("this one is archived")])
def test_a_pack_that_cannot_be_had_costs_its_files_only(error: EngineError, tmp_path: Path) -> None:
    moving, _, reporter = transfer(error, tmp_path)
    finished = moving.drive()
    assert finished.summary["errors"] == 40
    assert sorted(reporter.errors) == sorted(bytes(tmp_path / f"{n:03}") for n in range(40))
