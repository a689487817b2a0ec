"""What `lowtide backup` stores, and what it refuses before it begins."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest

from lowtide_engine.errors import BadInput
from lowtide_engine.repository import Password, open_repository
from lowtide_engine.storage import SystemClock
from tests.conformance.actors import PASSWORD
from tests.conformance.pruning import storage_at
from tests.unit.cli.conftest import Run


@pytest.mark.parametrize(("parent", "tags"), [("partial", [()]), ("whole", [])])
def test_only_what_equals_a_whole_snapshot_is_unchanged(
    lowtide: Run, parent: str, tags: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    lowtide("backup", "file")
    repository = open_repository(storage_at(tmp_path / "repository"), Password(PASSWORD), clock=SystemClock())
    with repository:
        with repository.locked(exclusive=True) as locked:
            (first,) = locked.snapshots()
            if parent == "partial":
                locked.save_snapshot(first.retagged(["lowtide:partial"]))
                locked.delete_snapshot(first.id)
            (before,) = locked.snapshots()

        monkeypatch.setenv("RESTIC_PASSWORD", PASSWORD)
        lowtide("backup", "file", "--skip-if-unchanged")

        with repository.locked() as locked:
            assert [snapshot.tags for snapshot in locked.snapshots() if snapshot.id != before.id] == tags


def test_a_standard_input_that_is_closed_is_told(lowtide: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)

    with pytest.raises(BadInput, match="standard input"):
        lowtide("backup", "--stdin")


def test_what_is_no_id_of_a_pack_is_refused(lowtide: Run) -> None:
    with pytest.raises(click.BadParameter, match="no whole id"):
        lowtide("repair", "packs", "x" * 64)
