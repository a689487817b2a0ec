"""Which snapshots the filters of a command select, above all those of a command that removes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click
import pytest

from lowtide_engine.cli.selecting import OWNER_KEYS, snapshot_filter
from lowtide_engine.repository import Instant, Password, Repository, Snapshot, open_repository
from lowtide_engine.storage import SystemClock
from tests.conformance.actors import PASSWORD
from tests.conformance.pruning import storage_at
from tests.unit.cli.conftest import Run

Names = Callable[[], list[str]]


def opened(tmp_path: Path) -> Repository:
    return open_repository(storage_at(tmp_path / "repository"), Password(PASSWORD), clock=SystemClock())


@pytest.fixture
def stored(lowtide: Run, tmp_path: Path) -> Names:
    """The user names of the snapshots that are there: one without tags and one with of the host `one`, one of a run."""
    of_run = tuple(f"lowtide:{key}={value}" for key, value in (("policy", "shop"), ("run", "r1")))
    with opened(tmp_path) as repository, repository.locked() as locked:
        for name, host, tags in (("bare", "one", ()), ("tagged", "one", ("a",)), ("other", "two", ("a",))):
            locked.save_snapshot(Snapshot(Instant.at(1e9), "0" * 64, ("/",), host, username=name, tags=tags))
        locked.save_snapshot(Snapshot(Instant.at(1e9), "0" * 64, ("/",), "shop", username="of a run", tags=of_run))

    def names() -> list[str]:
        with opened(tmp_path) as repository, repository.locked() as locked:
            return sorted(snapshot.username for snapshot in locked.snapshots())

    return names


def test_the_empty_tag_selects_what_has_no_tags(lowtide: Run, stored: Names) -> None:
    lowtide("forget", "--unsafe-allow-remove-all", "--tag", "")

    assert stored() == ["of a run", "other", "tagged"]


def test_the_empty_tag_of_a_policy_is_refused(lowtide: Run, stored: Names) -> None:
    with pytest.raises(click.UsageError, match="without tags"):
        lowtide("forget", "--policy", "shop", "--keep-last", "1", "--tag", "")

    assert len(stored()) == 4


@pytest.mark.parametrize("key", OWNER_KEYS)
def test_an_owner_without_a_name_is_refused(lowtide: Run, stored: Names, key: str) -> None:
    for words in (["forget", "--keep-last", "1"], ["forget", "--unsafe-allow-remove-all"], ["snapshots"]):
        with pytest.raises(click.BadParameter, match="empty"):
            lowtide(*words, "--tag", "a", f"--{key}", "")

    assert len(stored()) == 4


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ((), ["of a run", "other"]),
        (("--host", "two"), ["bare", "of a run", "tagged"]),
        (("--host", "", "--tag", "a"), ["bare", "of a run"]),
        (("--policy", "shop"), ["bare", "other", "tagged"]),
    ],
    ids=str,
)
def test_only_what_is_of_this_host_is_removed(
    lowtide: Run, stored: Names, words: Sequence[str], left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTIC_HOST", "one")

    lowtide("forget", "--unsafe-allow-remove-all", *words)

    assert stored() == left


def test_ids_are_removed_whatever_their_host(
    lowtide: Run, stored: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTIC_HOST", "one")
    with opened(tmp_path) as repository, repository.locked() as locked:
        (other,) = (snapshot.id for snapshot in locked.snapshots() if snapshot.username == "other")

    lowtide("forget", other)

    assert stored() == ["bare", "of a run", "tagged"]


def test_a_mover_selects_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTIC_HOST", "one")
    assert snapshot_filter((), (), ()).hosts == ("one",)
    monkeypatch.setenv("LOWTIDE_HOLDER", "c1.shop.pod")
    assert snapshot_filter((), (), ()).hosts == ()
    assert snapshot_filter(("two",), (), ()).hosts == ("two",)


def test_an_empty_tag_is_none_of_a_new_snapshot(lowtide: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lowtide("backup", tmp_path / "file", "--tag", "", "--tag", "b,")

    with opened(tmp_path) as repository, repository.locked() as locked:
        assert [snapshot.tags for snapshot in locked.snapshots()] == [("b",)]
