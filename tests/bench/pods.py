"""When pods start and stop: the time that a run can't save, whoever waits for it."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

from lowtide_operator.planning.naming import PURPOSE_LABEL
from tests import programs
from tests.cluster.kubectl import Kubectl

PURPOSE = PURPOSE_LABEL.replace(".", "\\.")
FIELDS = (
    "{.type} {.object.metadata.uid} {.object.status.phase} deleted={.object.metadata.deletionTimestamp} "
    f"{{.object.metadata.labels.{PURPOSE}}}\n"
)


@dataclass(slots=True)
class Life:
    """Moments of one pod, in monotonic seconds as the watch told them; None where they did not come (yet). `purpose` is
    what it is for, empty where it is not one of Lowtide's. `ended` is when its containers had."""

    made: float
    purpose: str = ""
    running: float | None = None
    ended: float | None = None
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

    def ran(self, began: float) -> dict[str, list[float]]:
        """For each of Lowtide's pods that was made after `began`, by its purpose: the seconds after it at which the pod
        was made, ran, had ended and was gone, as far as these came."""
        return {
            life.purpose: [at - began for at in (life.made, life.running, life.ended, life.gone) if at is not None]
            for life in self._lives.values()
            if life.purpose and life.made >= began
        }

    def _follow(self) -> None:
        assert self._kubectl.stdout is not None
        for line in self._kubectl.stdout:
            what, uid, phase, deleted, purpose = line.rstrip("\n").split(" ", 4)
            now = time.monotonic()
            life = self._lives.setdefault(uid, Life(now, purpose))
            if phase != "Pending" and life.running is None:
                life.running = now
            if phase in ("Succeeded", "Failed") and life.ended is None:
                life.ended = now
            if deleted != "deleted=" and life.stopping is None:
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
