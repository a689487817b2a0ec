"""The two programs under one roof: `Restic` runs the oracle, `Lowtide` runs ours, both as processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lowtide_engine.contract import RESULT_FILE_VARIABLE, Result, decode

PASSWORD = "correct horse"
TIMEOUT = 120


@dataclass(frozen=True, slots=True)
class Ran:
    """How a process ended."""

    code: int
    out: str
    err: str

    def messages(self, message_type: str = "") -> list[dict[str, Any]]:
        """The JSON lines of the standard output, all or those of one type."""
        lines = [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]
        return [line for line in lines if not message_type or line.get("message_type") == message_type]

    def summary(self) -> dict[str, Any]:
        (summary,) = self.messages("summary")
        return summary


@dataclass
class Actor:
    """A program with a repository; `run` is a call that must succeed unless `code` says otherwise. `limit` runs in the
    child before the program: see rights.py."""

    command: Sequence[str]
    repository: str
    environment: dict[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("RESTIC_", "AWS_", "LOWTIDE_"))
        }
        own = {"RESTIC_REPOSITORY": self.repository, "RESTIC_PASSWORD": PASSWORD, "TZ": "UTC"}
        return inherited | own | self.environment

    def run(
        self,
        *arguments: str | Path,
        code: int | None = 0,
        cwd: Path | None = None,
        extra: Mapping[str, str] | None = None,
        limit: Callable[[], None] | None = None,
    ) -> Ran:
        done = subprocess.run(
            [*self.command, *map(str, arguments)],
            env=self.variables() | dict(extra or {}),
            cwd=cwd,
            preexec_fn=limit,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT,
        )
        ran = Ran(
            done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="backslashreplace")
        )
        if code is not None:
            assert ran.code == code, (
                f"{self.command[-1]} {arguments} ended with {ran.code}\n{ran.out[-2000:]}\n{ran.err[-4000:]}"
            )
        return ran

    def start(self, *arguments: str | Path, extra: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.command, *map(str, arguments)],
            env=self.variables() | dict(extra or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def snapshots(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.run("snapshots", "--json").out)
        return listed

    def backup(self, *arguments: str | Path, code: int = 0, cwd: Path | None = None) -> dict[str, Any]:
        """Back up, and give the summary."""
        return self.run("backup", "--json", *arguments, code=code, cwd=cwd).summary()

    def list_ids(self, kind: str) -> set[str]:
        return set(self.run("list", kind).out.split())


class Restic(Actor):
    """The oracle."""


class Lowtide(Actor):
    """Ours. Every run's result document is read back, and must agree with the exit code."""

    result: Result | None = None

    def run(
        self,
        *arguments: str | Path,
        code: int | None = 0,
        cwd: Path | None = None,
        extra: Mapping[str, str] | None = None,
        limit: Callable[[], None] | None = None,
    ) -> Ran:
        file = Path(self.environment[RESULT_FILE_VARIABLE])
        file.unlink(missing_ok=True)
        ran = super().run(*arguments, code=code, cwd=cwd, extra=extra, limit=limit)
        self.result = decode(file.read_bytes())
        expected = {0: ("ok",), 3: ("partial",)}.get(ran.code, ("failed",))
        if arguments[0] == "restore" and ran.code == 1:
            expected = ("failed", "partial")
        assert self.result.outcome in expected, self.result
        return ran


def lowtide_command() -> list[str]:
    return [sys.executable, "-m", "lowtide_engine.cli"]
