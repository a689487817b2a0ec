"""The restic program, as a fixture: run in a home of its own, over the same repository that Lowtide has open."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests import programs


@dataclass(frozen=True)
class Restic:
    """restic on one repository. `environment` holds its location, its password and the storage's credentials."""

    environment: Mapping[str, str]

    @classmethod
    def on(cls, location: str, password: str, home: Path, credentials: Mapping[str, str] | None = None) -> Restic:
        """For a repository at `location`; its cache goes below `home`."""
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        own = {"RESTIC_REPOSITORY": location, "RESTIC_PASSWORD": password, "HOME": str(home), "TZ": "UTC"}
        return cls(kept | own | {"RESTIC_PROGRESS_FPS": "0"} | dict(credentials or {}))

    def with_password(self, password: str) -> Restic:
        """The same with another password."""
        return Restic({**self.environment, "RESTIC_PASSWORD": password})

    def run(self, *arguments: str | Path, expect: int = 0, stdin: str | None = None) -> str:
        """Run it and give its standard output; its exit code must be `expect`."""
        done = subprocess.run(
            [programs.program("restic"), *arguments],
            env=dict(self.environment),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        said = f"restic {' '.join(map(str, arguments))}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == expect, said
        return done.stdout

    def json(self, *arguments: str | Path) -> object:
        """Run it with --json and give what it printed, decoded."""
        return json.loads(self.run(*arguments, "--json"))

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start it with an open standard input."""
        return subprocess.Popen(
            [programs.program("restic"), *arguments],
            env=dict(self.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
