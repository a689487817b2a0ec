"""Block devices for tests: files behind loop devices, where this machine lets us have them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def loop_device(file: Path, size: int, *, old: bytes = b"") -> Iterator[Path]:
    """A device of `size` bytes over a new file that is full of `old` data; gone at the end. Skips the test, with the
    reason, where no loop device can be had."""
    with file.open("wb") as handle:
        if old:
            handle.write((old * (size // len(old) + 1))[:size])
        handle.truncate(size)
    made = subprocess.run(["losetup", "--find", "--show", str(file)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no loop device can be had here: {made.stderr.strip()}")
    device = Path(made.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=True)


def content(device: Path) -> bytes:
    """All that is on a device, not from the memory of whoever wrote it."""
    descriptor = os.open(device, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        with os.fdopen(os.dup(descriptor), "rb") as reader:
            return reader.read()
    finally:
        os.close(descriptor)
