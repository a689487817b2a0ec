"""Processes that outlive the program that started them: started detached, known by pid and start time, ended by those.

A pid alone proves nothing (it is used again after a crash), so every record carries the kernel's start time, and
signals go through a pidfd that is opened before the start time is compared. Everything started for a cluster also
carries a mark in its environment, by which a later `up` or `down` finds what a killed run left behind.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = "LOWTIDE_TEST_CLUSTER"
"""The environment variable that every process of a cluster carries; its value is the cluster's state folder."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was started: `started` is field 22 of /proc/PID/stat, in clock ticks since boot."""

    name: str
    pid: int
    started: int
    log: str

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return _start_time(self.pid) == self.started

    def send(self, signum: int) -> bool:
        """Send a signal to this very process; False where it is gone."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(handle, signum)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def tail(self, lines: int = 15) -> str:
        """The end of its log, for an error message."""
        try:
            text = Path(self.log).read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def start(
    name: str,
    command: Sequence[str | Path],
    *,
    log: Path,
    mark: Path | None = None,
    environment: Mapping[str, str] | None = None,
    bound: bool = False,
) -> Process:
    """Start `command` in a session of its own; its output is appended to `log`.

    `environment` is added to ours. With `bound` the kernel ends it (SIGKILL) when the thread that called this ends.
    """
    argv = [str(part) for part in command]
    if bound and (setpriv := shutil.which("setpriv")):
        argv = [setpriv, "--pdeathsig", "KILL", "--", *argv]
    variables = {**os.environ, **(environment or {})}
    if mark is not None:
        variables[MARK] = str(mark)
    log.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawnp(argv[0], argv, variables, file_actions=actions, setsid=True)
    started = _start_time(pid)
    if started is None:
        raise ChildProcessError(f"{name} ended at once; its log is {log}")
    return Process(name, pid, started, str(log))


def end(processes: Iterable[Process], *, grace: float) -> None:
    """End the processes and wait until they are gone: SIGTERM, and SIGKILL to what is still there after `grace`
    seconds.

    With `grace` 0, SIGKILL at once. Stopped processes are woken. Those that are gone already are passed over.
    """
    left = [process for process in processes if process.alive()]
    if grace > 0:
        for process in left:
            process.send(signal.SIGTERM)
            process.send(signal.SIGCONT)
        left = _await_exit(left, grace)
    for process in left:
        process.send(signal.SIGKILL)
    left = _await_exit(left, 30)
    if left:
        raise ChildProcessError(f"still there after SIGKILL: {', '.join(f'{p.name} ({p.pid})' for p in left)}")


def marked(folder: Path) -> list[Process]:
    """Every process that carries the mark of the cluster in `folder`, whoever started it."""
    wanted = f"{MARK}={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        process = existing(int(entry.name))
        with contextlib.suppress(OSError):
            if process is not None and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(process)
    return found


def existing(pid: int) -> Process | None:
    """The record of a process that runs now, whoever started it; None where there is none."""
    started = _start_time(pid)
    if started is None:
        return None
    with contextlib.suppress(OSError):
        return Process(Path(f"/proc/{pid}/comm").read_text().strip(), pid, started, "")
    return None


def _await_exit(processes: Sequence[Process], within: float) -> list[Process]:
    deadline = time.monotonic() + within
    left = []
    for process in processes:
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if process.alive():
                poll.poll(max(0, deadline - time.monotonic()) * 1000)
        finally:
            os.close(handle)
        if process.alive():
            left.append(process)
    return left


def _start_time(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # Its first thread may have ended while others have not: they still hold its ports.
        ended = fields[0] in "ZX" and len(list(Path(f"/proc/{pid}/task").iterdir())) < 2
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if ended else int(fields[19])
