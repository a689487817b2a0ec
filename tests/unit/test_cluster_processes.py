"""Programs that tests start: one has ended once nothing of it is left."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.cluster import processes
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
