"""Keeps the CSI driver and its sidecars running: starts them again when one ends.

The sidecars end when the driver restarts, often only at their next call, so that they look alive and are not. So when
any of the programs ends, all are ended and started again. Run as a program with a JSON file: {"logs": FOLDER,
"commands": {NAME: ARGV}}. SIGTERM ends everything.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn


def main() -> NoReturn:
    """Start the programs, and start all of them again whenever one ends."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    logs = Path(settings["logs"])
    running: dict[str, subprocess.Popen[bytes]] = {}

    def end_all() -> None:
        for process in running.values():
            if process.poll() is None:
                process.terminate()
        for process in running.values():
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        running.clear()

    def leave(*_: object) -> NoReturn:
        end_all()
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    while True:
        for name, command in settings["commands"].items():
            with (logs / f"{name}.log").open("ab") as log:
                running[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        began = time.monotonic()
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        names = [name for name, process in running.items() if process.pid == ended.si_pid]
        print(f"{', '.join(names)} ended with {ended.si_status}; starting all again", flush=True)
        end_all()
        time.sleep(max(0, 0.5 - (time.monotonic() - began)))


if __name__ == "__main__":
    main()
