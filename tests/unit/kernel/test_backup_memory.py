"""A backup's memory is bounded by its buffers, whatever is backed up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, resource, sys
from lowtide_engine import _kernel as kernel

key = kernel.Key(os.urandom(32), os.urandom(16), os.urandom(16))
run = kernel.Backup(key, kernel.Index(), polynomial=0x3DA3358B4DC173, version=2, targets=[b"source"])
while not isinstance(event := run.next(60), kernel.Finished):
    if isinstance(event, kernel.PackReady):
        name = event.pack
        del event
        run.pack_stored(name)
    elif isinstance(event, kernel.IndexReady):
        run.index_stored(event.ticket)
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
print(event.summary["total_bytes_processed"], peak >> 10)
"""


def peak_mebibytes(tmp_path: Path, expected_bytes: int) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=True)
    processed, peak = map(int, done.stdout.split())
    assert processed == expected_bytes
    return peak


def test_large_files_take_no_more_than_the_buffers(tmp_path: Path) -> None:
    """Four packs of 17 MiB, three of trees, the readers' buffers, and what four hashers keep."""
    (tmp_path / "source").mkdir()
    for number in range(4):
        with (tmp_path / "source" / f"{number}").open("wb") as file:
            for _ in range(100):
                file.write(os.urandom(1 << 20))
    assert peak_mebibytes(tmp_path, 400 << 20) < 400


def test_holes_and_a_folder_of_many_files_take_little(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "sparse").touch()
    os.truncate(tmp_path / "source" / "sparse", 50 << 30)
    for number in range(20_000):
        (tmp_path / "source" / f"file with a name {number}").touch()
    assert peak_mebibytes(tmp_path, 50 << 30) < 150
