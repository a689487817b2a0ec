"""Repositories whose keys are derived at once, so that tests of many commands don't wait for scrypt; and twins of one,
for the two programs to do the same to.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from lowtide_engine.errors import StorageError
from lowtide_engine.repository import KdfParameters, Password, init_repository
from lowtide_engine.storage import Storage, SystemClock
from tests.conformance.actors import PASSWORD, Lowtide, Restic
from tests.conformance.pruning import DyingStorage, check_at, storage_at

CHEAP = KdfParameters(128, 1, 1)


def make_repository(place: Path | str, *, version: Literal[1, 2] = 2, polynomial: int | None = None) -> None:
    """Create one with the password of the actors."""
    storage = storage_at(Path(place))
    password = Password(PASSWORD)
    init_repository(storage, password, clock=SystemClock(), version=version, polynomial=polynomial, kdf=CHEAP).close()


def twin(restic: Restic, lowtide: Lowtide) -> tuple[Restic, Lowtide]:
    """Copy the repository of both, and give a restic for the copy, and the lowtide that stays with the original."""
    copied = f"{restic.repository} of restic"
    shutil.copytree(restic.repository, copied)
    return Restic(restic.command, copied, restic.environment), lowtide


def facts(snapshots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What two programs must agree about in snapshots: all but their ids, which are random, who wrote them,
    and the order of tags."""
    kept = []
    for snapshot in snapshots:
        gone = ("id", "short_id", "program_version", "parent")
        tags = {"tags": sorted(snapshot["tags"])} if snapshot.get("tags") else {}
        kept.append({key: value for key, value in snapshot.items() if key not in gone} | tags)
    return sorted(kept, key=lambda one: (str(one["time"]), str(one.get("tags")), str(one["tree"])))


def killed_at_each_change(
    place: Path, work: Callable[[Storage], None], judge: Callable[[], None], *, damaged: bool = False
) -> int:
    """Run `work` on the repository at `place` again and again, killed at its 1st, 2nd, … change, until it comes
    through; each time from the same start. After each, the repository must be whole (unless it was `damaged`), and
    `judge` may look; then the work is run to its end, and judged again. Gives the number of changes.
    """
    start = place.with_name(f"{place.name} at the start")
    shutil.move(place, start)
    changes = 0
    while True:
        shutil.copytree(start, place)
        dying = DyingStorage(storage_at(place), changes)
        try:
            work(dying)
        except StorageError:
            assert dying.died
        if not damaged:
            assert check_at(place)[1] == []
        judge()
        if not dying.died:
            return changes
        work(storage_at(place))
        judge()
        shutil.rmtree(place)
        changes += 1
