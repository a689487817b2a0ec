"""A backup and a forgetting, killed at any write: nothing is lost, nothing false is there, the next run ends it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lowtide_engine.backup import BackupRequest, back_up
from lowtide_engine.forget import forget_by_rules
from lowtide_engine.repository import Instant, Snapshot
from lowtide_engine.retention import Rules
from lowtide_engine.storage import Storage
from tests.conformance.actors import Lowtide, Restic
from tests.conformance.pruning import FOREVER, Watching, exclusive, opened, storage_at
from tests.conformance.quick import killed_at_each_change, make_repository
from tests.conformance.trees import describe, differences

pytestmark = pytest.mark.oracle
PACK = 4 << 20


def backup_of(source: Path, storage: Storage) -> None:
    request = BackupRequest([os.fsencode(source)], "host", pack_size=PACK, compression="off")
    with opened(storage) as repository, repository.locked() as locked:
        assert back_up(locked, request, Watching(), FOREVER).errors == 0


def snapshots(place: Path) -> list[Snapshot]:
    with exclusive(storage_at(place)) as locked:
        return locked.snapshots()


def test_a_backup_killed_at_any_write_leaves_the_one_before_and_is_ended_by_the_next(
    place: str, tmp_path: Path, lowtide: Lowtide, restic: Restic
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "kept").write_bytes(os.urandom(50_000))
    make_repository(place)
    backup_of(source, storage_at(Path(place)))
    [first] = snapshots(Path(place))
    (source / "new").write_bytes(os.urandom(3 * PACK))

    def judge() -> None:
        before, *after = snapshots(Path(place))
        assert before.id == first.id
        assert len({snapshot.tree for snapshot in after}) <= 1

    changes = killed_at_each_change(Path(place), lambda storage: backup_of(source, storage), judge)

    # Packs of data, one of trees, an index, the snapshot.
    assert changes >= 6
    restic.run("check", "--read-data")
    lowtide.run("restore", f"latest:{source}", "--target", tmp_path / "back")
    assert not [line for line in differences(describe(source), describe(tmp_path / "back")) if "b'.'" not in line]


def test_a_forgetting_killed_at_any_write_never_takes_what_is_kept(place: str) -> None:
    make_repository(place)
    with exclusive(storage_at(Path(place))) as locked:
        for day in range(1, 7):
            locked.save_snapshot(Snapshot(Instant.parse(f"2024-01-0{day}T00:00:00Z"), "0" * 64, ("/a",), hostname="h"))
    kept = {snapshot.id for snapshot in snapshots(Path(place))[-2:]}

    def work(storage: Storage) -> None:
        with exclusive(storage) as locked:
            forget_by_rules(locked, Rules(last=2), Watching(), FOREVER)

    def judge() -> None:
        assert kept <= {snapshot.id for snapshot in snapshots(Path(place))}

    assert killed_at_each_change(Path(place), work, judge, damaged=True) == 4
    assert {snapshot.id for snapshot in snapshots(Path(place))} == kept
