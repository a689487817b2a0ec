"""The kubectl program, bound to one cluster."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import programs


class KubectlError(Exception):
    """kubectl ended with an error; the text is what it was called with and what it said."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Runs kubectl against the cluster of `kubeconfig`. `kubectl("get", "pods")` answers what it printed."""

    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run it and answer its output. Raises KubectlError where it fails, subprocess.TimeoutExpired after `timeout`
        s."""
        done = self.run(*arguments, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run it and answer its exit code, output and errors, whatever they are."""
        command = [str(programs.program("kubectl")), "--kubeconfig", str(self.kubeconfig), *arguments]
        if stdin is None:
            return subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
            )
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)

    def get(self, *arguments: str, timeout: float = 60) -> Any:
        """`kubectl get … -o json`, decoded."""
        return json.loads(self("get", *arguments, "-o", "json", timeout=timeout))

    def faults(self) -> list[str]:
        """Why the API server can't be used, in one sentence; empty where it is ready."""
        ready = self.run("get", "--raw=/readyz", "--request-timeout=5s")
        return [] if ready.returncode == 0 else [f"the API server is not ready: {ready.stderr.strip()}"]

    def apply(self, *documents: object, namespace: str | None = None) -> None:
        """Apply objects that are given as dictionaries, by server-side apply."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        where = ("-n", namespace) if namespace else ()
        self("apply", "--server-side", "--force-conflicts", *where, "-f", "-", stdin=json.dumps(items))
