"""Controllers that others wrote, as processes beside the API server."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.cluster import processes
from tests.cluster.processes import Process
from tests.cluster.waiting import wait_for


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str | Path], *, folder: Path, health: int, environment: Mapping[str, str]
) -> Iterator[Process]:
    """The process for the time of a `with` block, once it says on the port `health` that it is ready; its log is
    `<name>.log` in `folder`."""
    log = folder / f"{name}.log"
    process = processes.start(name, command, log=log, environment=environment, bound=True)

    def ready() -> bool:
        assert process.alive(), f"{name} ended:\n{process.tail()}"
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{health}/readyz", timeout=5):
            return True
        return False

    try:
        wait_for(f"{name} is ready", ready, within=60, every=0.2, seen=process.tail)
        yield process
    finally:
        processes.end([process], grace=10)
