"""What a command holds at its peak: a backup and a restore of far more than that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conformance.actors import PASSWORD
from tests.conformance.quick import make_repository

PROGRAM = """
import os, sys
from lowtide_engine.cli.process import run

# As many threads on every machine.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
code = run(sys.argv[1:])
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
sys.exit(code)
"""
MOST = 150
"""Mebibytes."""


def peak_mebibytes(repository: Path, *arguments: str | Path) -> int:
    environment = {**os.environ, "RESTIC_REPOSITORY": str(repository), "RESTIC_PASSWORD": PASSWORD}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, env=environment, cwd=repository.parent, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1]) >> 10


def test_a_backup_and_a_restore_of_300_mb_take_150(tmp_path: Path) -> None:
    """Random data fills all that there is on the way: packs, buffers, what waits to be verified."""
    repository = tmp_path / "repository"
    make_repository(repository)
    with (tmp_path / "file").open("wb") as file:
        for _ in range(300):
            file.write(os.urandom(1 << 20))
    assert peak_mebibytes(repository, "backup", "file") < MOST
    assert peak_mebibytes(repository, "restore", "latest", "--target", tmp_path / "target") < MOST
