"""One command, measured: wall time, processor time and peak memory, as the kernel counts them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TAIL = 1500


class CommandFailed(Exception):
    """A measured command ended with an error, or took longer than it may."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of wall and processor time of some commands, and the most memory that one of them had, in bytes."""

    wall: float
    cpu: float
    peak: int

    def __add__(self, other: Measured) -> Measured:
        return Measured(self.wall + other.wall, self.cpu + other.cpu, max(self.peak, other.peak))


def measure(command: Sequence[str | Path], environment: Mapping[str, str], *, folder: Path, limit: float) -> Measured:
    """Run `command` in `folder` with nothing but `environment`. Raises CommandFailed with the end of what it said.

    The peak is never below this process's own memory, which a child starts from: keep that small.
    """
    began = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        expired = threading.Event()

        def end() -> None:
            expired.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(limit, end)
        timer.start()
        try:
            said = _last(process)
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - began
    if expired.is_set():
        raise CommandFailed(f"more than {limit:.0f} s")
    if process.returncode != 0:
        raise CommandFailed(f"{command[0]} ended with {process.returncode}: {said[-TAIL:].decode(errors='replace')}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _last(process: subprocess.Popen[bytes]) -> bytes:
    """What it says last; all is read, so that it never waits for a reader."""
    assert isinstance(process.stdout, io.BufferedReader)
    said = b""
    while piece := process.stdout.read1(65536):
        said = (said + piece)[-2 * TAIL :]
    return said


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(os.lstat(os.path.join(where, name)).st_size for where, _, names in os.walk(folder) for name in names)
