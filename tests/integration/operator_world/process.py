"""The operator as a process: started, asked, ended or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.cluster.controlplane import free_ports
from tests.cluster.waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]


class Operator:
    """`python -m lowtide_operator` against the API server of `kubeconfig`, serving `namespaces` only."""

    def __init__(self, kubeconfig: Path, log: Path, namespaces: str, **settings: str) -> None:
        (self.port,) = free_ports(1)
        self._log = log
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "operator"), str(ROOT / "engine")]),
            "LOWTIDE_NAMESPACE": namespaces.split(",")[0] or "default",
            "LOWTIDE_NAMESPACES": namespaces,
            "LOWTIDE_INSTALLATION": "tests/lowtide",
            "LOWTIDE_MOVER_IMAGE": "lowtide:played",
            "LOWTIDE_RELEASE_ACCOUNT": "default",
            "LOWTIDE_HTTP_PORT": str(self.port),
            "LOWTIDE_HTTP_ADDRESS": "127.0.0.1",
            "LOWTIDE_LOG_FORMAT": "text",
            "LOWTIDE_LOG_LEVEL": "DEBUG",
            "LOWTIDE_HEARTBEAT": "1",
            **{f"LOWTIDE_{name.upper()}": value for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until it calls itself ready."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lowtide_operator"], env=self._environment, stdout=log, stderr=log
            )
        if ready:
            wait_for("the operator is ready", lambda: self.ask("readyz")[0] == 200, within=90, seen=self.tail)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL, 10)

    def stop(self) -> int:
        """End it in order, and answer its exit code."""
        return self._end(signal.SIGTERM, 30)

    def ask(self, path: str) -> tuple[int, str]:
        """The status and text of an address that it serves; status 0 where it does not answer."""
        assert self.process is not None
        assert self.process.poll() is None, f"the operator ended by itself:\n{self.tail()}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=5) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return int(error.code), error.read().decode()
        except OSError as error:
            return 0, str(error)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def rss(self) -> int:
        """Its resident memory, in bytes."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024

    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.text().splitlines()[-lines:])

    def _end(self, number: int, within: float) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise


class ReleasePod:
    """`python -m lowtide_operator.release` with the arguments that its Job gives it."""

    def __init__(self, kubeconfig: Path, log: Path, arguments: list[str]) -> None:
        self._log = log
        self._arguments = [argument for argument in arguments if not argument.startswith("--armed-file")]
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "operator"), str(ROOT / "engine")]),
            "LOWTIDE_LOG_FORMAT": "text",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "lowtide_operator.release", *self._arguments]
            self.process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it as an eviction does, and answer its exit code."""
        return self._end(signal.SIGTERM)

    def wait(self, within: float) -> int:
        """Wait until its work is over, and answer its exit code."""
        assert self.process is not None
        return self.process.wait(within)

    def text(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _end(self, number: int) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)
