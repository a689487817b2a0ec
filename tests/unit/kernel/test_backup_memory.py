"""A backup's memory is bounded by its buffers, whatever is backed up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys
from lowtide_engine import _kernel as kernel

# As many threads on every machine.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])

key = kernel.Key(os.urandom(32), os.urandom(16), os.urandom(16))
stream = (b"zeros", 0, (0, 0)) if sys.argv[1:] else None
targets = [] if stream else [b"source"]
run = kernel.Backup(key, kernel.Index(), polynomial=0x3DA3358B4DC173, version=2, targets=targets, stream=stream)
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


def peak_mebibytes(tmp_path: Path, expected_bytes: int, writer: str = "") -> int:
    command = f"{writer} | {sys.executable} -c '{PROGRAM}' stream" if writer else [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, shell=bool(writer), cwd=tmp_path, capture_output=True, text=True, check=True)
    processed, peak = map(int, done.stdout.split())
    assert processed == expected_bytes
    return peak


def test_large_files_take_no_more_than_the_buffers(tmp_path: Path) -> None:
    """Four packs of 17 MiB, three of trees, the readers' buffers, and what two hashers keep."""
    (tmp_path / "source").mkdir()
    for number in range(4):
        with (tmp_path / "source" / f"{number}").open("wb") as file:
            for _ in range(100):
                file.write(os.urandom(1 << 20))
    assert peak_mebibytes(tmp_path, 400 << 20) < 130


def test_holes_and_a_folder_of_many_files_take_little(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "sparse").touch()
    os.truncate(tmp_path / "source" / "sparse", 50 << 30)
    for number in range(20_000):
        (tmp_path / "source" / f"file with a name {number}").touch()
    assert peak_mebibytes(tmp_path, 50 << 30) < 150


def test_a_stream_of_2_gb_takes_no_more_than_files(tmp_path: Path) -> None:
    """No byte of it is ever on a disk; every 64 MiB are other bytes, so that packs are made."""
    block = "head -c 67108864 /dev/urandom > block; for i in $(seq 32); do printf %s $i; tail -c 67108862 block; done"
    single, double = 9 * (1 + 67108862), 23 * (2 + 67108862)
    assert peak_mebibytes(tmp_path, single + double, f"({block})") < 130
