"""All tests, in groups side by side: `python -m tests.groups`, with arguments for pytest.

Those against Kubernetes wait most of the time, so that two processors are enough for all. They go first where both want
one: the others are only slower for it. What a group prints is shown whole when it ends. Beside the tests is built what
few of them need and takes long; these begin when it is there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.programs import LATE

KERNEL = "engine/kernel/Cargo.toml"

NO_TESTS = 5
"""pytest's exit code where its arguments leave none."""

TELL_EVERY = 120.0
"""Seconds between two lines that say how far the groups are."""


@dataclass
class Group:
    """One process, which begins when those in `after` have ended; `niceness` as nice(1) has it."""

    name: str
    command: list[str]
    niceness: int = 0
    after: tuple[Group, ...] = ()
    output: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    process: subprocess.Popen[bytes] | None = None

    def start_when_due(self) -> None:
        """Begin it, once."""
        if self.process is not None or any(group.ended() is None for group in self.after):
            return
        command = ["nice", "-n", str(self.niceness), *self.command]
        self.process = subprocess.Popen(command, stdout=self.output, stderr=subprocess.STDOUT)

    def ended(self) -> int | None:
        """Its exit code, or None while it runs."""
        return None if self.process is None else self.process.poll()

    def said(self) -> bytes:
        """What it has printed."""
        size = os.fstat(self.output.fileno()).st_size
        return os.pread(self.output.fileno(), size, 0)

    def far(self) -> str:
        """How far it is, by the last percentage that it printed, if any."""
        if self.process is None:
            return f"{self.name} (waits)"
        percent = self.said().rpartition(b"%]")[0].rpartition(b"[")[2].strip().decode(errors="replace")
        return f"{self.name} {percent} %" if percent else self.name


def run(groups: list[Group]) -> int:
    """Run them all; 0 if each passed and any had tests, else an exit code of one that didn't."""
    began = time.monotonic()
    running = list(groups)
    codes: list[int] = []
    next_word = began + TELL_EVERY
    try:
        while running:
            for group in running:
                group.start_when_due()
            time.sleep(0.5)
            for group in [group for group in running if group.ended() is not None]:
                running.remove(group)
                code = group.ended() or 0
                codes.append(code)
                print(f"\n{group.name}: exit code {code} after {time.monotonic() - began:.0f} s", flush=True)
                sys.stdout.buffer.write(group.said())
                sys.stdout.buffer.flush()
            if running and time.monotonic() >= next_word:
                next_word += TELL_EVERY
                print("; ".join(group.far() for group in running), flush=True)
    finally:
        for group in running:
            if group.process is not None:
                group.process.terminate()
                group.process.wait()
        for group in groups:
            group.output.close()
    bad = [code for code in codes if code not in (0, NO_TESTS)]
    return max(bad, default=0 if 0 in codes else NO_TESTS)


def main(arguments: list[str]) -> int:
    """Run all groups with these arguments for pytest. Where they choose a part, that builds what it needs itself."""
    os.chdir(Path(__file__).parent.parent)
    python = [sys.executable, "-m"]
    pytest = [*python, "pytest", *arguments]
    two = ["--numprocesses", "2", "--dist", "loadfile"]
    api_server = Group("on an API server", [*pytest, *two, "-m", "apiserver and not cluster and not late"])
    late = Group("of Flux and KEDA", [*pytest, *two, "-m", "late"], after=(api_server,))
    groups = [
        Group("on a cluster", [*pytest, "-m", "cluster"]),
        api_server,
        late,
        Group("without Kubernetes", [*pytest, *two, "-m", "not cluster and not apiserver"], niceness=10),
    ]
    if not arguments:
        kernel = ["cargo", "test", "--quiet", "--locked", "--no-default-features", "--manifest-path", KERNEL]
        groups.append(Group("of the native kernel", kernel, niceness=10))
        building = Group("building", [*python, "tests.cluster", "tools", *LATE], niceness=5)
        groups.append(building)
        late.after += (building,)
    return run(groups)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
