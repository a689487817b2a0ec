"""Programs that tests start: one has ended once nothing of it is left, and the port of one is no other's."""

from __future__ import annotations

import random
import socket
import sys
from pathlib import Path

import pytest

from tests.cluster import processes
from tests.cluster.controlplane import free_ports
from tests.cluster.waiting import wait_for

WITHOUT_ITS_FIRST_THREAD = """
import ctypes, os, pathlib, sys, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""


def test_a_program_whose_first_thread_has_ended_still_runs(tmp_path: Path) -> None:
    """As one that is being killed: its other threads hold its ports a moment longer."""
    process = processes.start("p", [sys.executable, "-c", WITHOUT_ITS_FIRST_THREAD], log=tmp_path / "log", bound=True)
    stat = Path(f"/proc/{process.pid}/stat")
    wait_for("its first thread has ended", lambda: stat.read_text().rpartition(") ")[2].startswith("Z"), within=60)
    assert process.alive()
    processes.end([process], grace=0)
    assert not process.alive()
    assert not stat.exists()


def test_a_port_that_was_given_away_is_given_to_nobody_else_although_no_server_listens_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (port,) = free_ports(1)
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port)):
            pass
        monkeypatch.setattr(random.SystemRandom, "sample", lambda self, population, k: [port])
        with pytest.raises(OSError, match="no 1 free ports"):
            free_ports(1)
