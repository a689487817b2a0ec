"""One bit that is other than it was, in any file of a repository: a check finds it, and names the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lowtide_engine.errors import EngineError, RepositoryDamaged
from lowtide_engine.repository import Password, lock
from tests.conformance.actors import Lowtide
from tests.conformance.pruning import check_at, opened, storage_at
from tests.conformance.quick import CHEAP, make_repository


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is about to lock the repository, so nobody is looked for a second time."""
    monkeypatch.setattr(lock, "SECOND_LOOK_AFTER", 0.0)


@pytest.fixture
def repository(lowtide: Lowtide, tmp_path: Path, place: str) -> Path:
    """Two snapshots, a second password, packs of trees and of data; made by a lowtide that has a cache."""
    make_repository(place)
    with opened(storage_at(Path(place))) as repository:
        repository.add_key(Password("another"), kdf=CHEAP)
    for name in ("one", "two"):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / name).write_bytes(os.urandom(20_000))
        lowtide.backup(tmp_path / "source")
    return Path(place)


def files(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file())


def bits(path: Path) -> Iterator[int]:
    """Some of a file's: at its ends and within."""
    count = path.stat().st_size * 8
    yield from (0, 7, count // 3, count // 2, count - 8, count - 1)


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    good = path.read_bytes()
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << bit % 8
    path.chmod(0o600)
    path.write_bytes(bad)
    yield
    path.write_bytes(good)


def said(place: Path) -> str:
    """All that a check of every byte says, also where it can't begin."""
    try:
        return "\n".join(check_at(place)[1])
    except EngineError as error:
        return error.message


def test_every_file_is_found_and_named_wherever_the_bit_is(repository: Path) -> None:
    found = files(repository)
    assert {path.relative_to(repository).parts[0] for path in found} == {"config", "keys", "snapshots", "index", "data"}
    assert said(repository) == ""
    for path in found:
        for bit in bits(path):
            with flipped(path, bit):
                assert path.name[:8] in said(repository), (path, bit)


def test_a_lock_that_can_not_be_read_is_named_and_respected(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_LOAD_PAUSES", ())
    opened(storage_at(repository)).locks.acquire(exclusive=False)
    [path] = (path for path in files(repository) if path.parent.name == "locks")
    for bit in bits(path):
        with flipped(path, bit), pytest.raises(RepositoryDamaged, match=f"may exclude us: locks/{path.name}"):
            check_at(repository)


def test_a_good_copy_in_the_cache_hides_nothing(repository: Path, lowtide: Lowtide) -> None:
    """Whoever made the backup has all but the data in a cache."""
    cache = Path(lowtide.environment["RESTIC_CACHE_DIR"])
    trees = {path.name for path in cache.rglob("*") if path.parent.name == "data"}
    judged = [path for path in files(repository) if path.parent.name in ("snapshots", "index") or path.name in trees]
    assert len(judged) >= 6
    for path in judged:
        with flipped(path, 1000):
            ran = lowtide.run("check", code=1)
        assert "Damaged" in str(lowtide.result)
        if path.name not in trees:
            assert path.name[:8] in ran.err
    lowtide.run("check")


def test_a_check_with_the_cache_takes_from_there_what_it_has(repository: Path, lowtide: Lowtide) -> None:
    [path, *_] = (path for path in files(repository) if path.parent.name == "snapshots")
    with flipped(path, 1000):
        lowtide.run("check", "--with-cache")
        lowtide.run("check", "--with-cache", "--no-cache", code=1)


def test_a_damaged_index_is_mended_though_the_cache_has_a_good_one(repository: Path, lowtide: Lowtide) -> None:
    damaged = next(path for path in files(repository) if path.parent.name == "index")
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    lowtide.run("check", code=1)
    lowtide.run("repair", "index")
    lowtide.run("check", "--read-data")
    assert not damaged.exists()
