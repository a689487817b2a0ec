"""That a run which works can be told from one that hangs: its steps go on, also within one large file."""

from __future__ import annotations

from pathlib import Path

from lowtide_engine import _kernel as kernel
from tests.unit.kernel.runs import Made, drive

BLOBS = 12


def steps(made: Made, tree: str, target: Path, *, verify: bool = False) -> int:
    run = kernel.Restore(made.key, made.index, tree=tree, target=bytes(target), verify=verify)
    assert drive(run, made.read).faults() == []
    return run.progress().steps


def test_comparing_and_reading_back_a_large_file_are_steps(tmp_path: Path) -> None:
    made = Made()
    tree = made.tree(made.file("large", *(bytes([n]) * 600_000 for n in range(BLOBS))))
    made.seal()

    written = steps(made, tree, tmp_path / "plain")
    read_back = steps(made, tree, tmp_path / "verified", verify=True)
    compared = steps(made, tree, tmp_path / "plain")

    assert written > 0
    assert read_back >= written + BLOBS
    assert compared >= written + BLOBS
