"""When pods start and stop: the time that a run can't save, whoever waits for it."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

from tests import programs
from tests.cluster.kubectl import Kubectl

FIELDS = "{.type} {.object.metadata.uid} {.object.status.phase} deleted={.object.metadata.deletionTimestamp}\n"


@dataclass(slots=True)
class Life:
    """Moments of one pod, in monotonic seconds as the watch told them; None where they did not come (yet)."""

    made: float
    running: float | None = None
    stopping: float | None = None
    gone: float | None = None


class PodWatch:
    """Follows the pods of one namespace for the time of a `with` block, by `kubectl get pods --watch`."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._command = [
            *(str(programs.program("kubectl")), "--kubeconfig", str(kubectl.kubeconfig), "-n", namespace),
            *("get", "pods", "--watch", "--output-watch-events", "-o", f"jsonpath={FIELDS}"),
        ]
        self._lives: dict[str, Life] = {}

    def __enter__(self) -> PodWatch:
        self._kubectl = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._follow, name="pod-watch")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kubectl.terminate()
        self._kubectl.wait()
        self._thread.join()

    def busy(self, began: float, ended: float) -> float:
        """Seconds between two monotonic moments in which at least one pod was starting (from its object to Running) or
        stopping (from its deletion to its end)."""
        lives = [*self._lives.values()]
        spans = [(life.made, life.running or ended) for life in lives]
        spans += [(life.stopping, life.gone or ended) for life in lives if life.stopping is not None]
        return covered((max(start, began), min(end, ended)) for start, end in spans)

    def _follow(self) -> None:
        assert self._kubectl.stdout is not None
        for line in self._kubectl.stdout:
            what, uid, phase, deleted = line.split(" ", 3)
            now = time.monotonic()
            life = self._lives.setdefault(uid, Life(now))
            if phase != "Pending" and life.running is None:
                life.running = now
            if deleted.strip() != "deleted=" and life.stopping is None:
                life.stopping = now
            if what == "DELETED":
                life.gone = now


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of spans (start, end); one that ends before it starts counts nothing."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
