"""When a run begins and ends, and when pods start and stop: the time that no run can save."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from lowtide_engine.contract import decode
from lowtide_operator.planning.naming import PURPOSE_LABEL
from tests import programs
from tests.cluster.kubectl import Kubectl

PURPOSE = PURPOSE_LABEL.replace(".", "\\.")
FIELDS = (
    "{.type} {.object.metadata.uid} {.object.status.phase} deleted={.object.metadata.deletionTimestamp} "
    f"{{.object.metadata.labels.{PURPOSE}}} {{.object.status.containerStatuses[0].state.terminated.message}}\n"
)
ENDS = "{.object.metadata.name} {.object.status.endTime}\n"

BEFORE_ITS_CLOCK = 0.15
"""Seconds that a mover takes before it counts how long it works: the interpreter's start."""


@dataclass(slots=True)
class Life:
    """Moments of one pod, in monotonic seconds as the watch told them; None where they did not come (yet). `purpose` is
    what it is for, empty where it is not one of Lowtide's. `ended` is when its containers had, `worked` for how many
    seconds its mover did by its own result."""

    made: float
    purpose: str = ""
    running: float | None = None
    ended: float | None = None
    stopping: float | None = None
    gone: float | None = None
    worked: float | None = None

    @property
    def began(self) -> float | None:
        """When its mover had begun to work, so that what the kubelet takes to tell of its containers is no work; for
        any other pod, and one whose result is not known, when it ran."""
        if self.ended is None or self.worked is None:
            return self.running
        return max(self.made, self.ended - self.worked - BEFORE_ITS_CLOCK)

    def told(self, began: float) -> dict[str, float]:
        """What is known of it, in words; moments as seconds after `began`."""
        moments = {"made": self.made, "runs": self.running, "ended": self.ended, "gone": self.gone}
        known = {word: at - began for word, at in moments.items() if at is not None}
        return known if self.worked is None else known | {"worked for": self.worked}


class _Watch:
    """Follows the objects of one kind in one namespace for the time of a `with` block, by `kubectl get --watch`."""

    def __init__(self, kubectl: Kubectl, namespace: str, kind: str, fields: str) -> None:
        self._command = [
            *(str(programs.program("kubectl")), "--kubeconfig", str(kubectl.kubeconfig), "-n", namespace),
            *("get", kind, "--watch", "--output-watch-events", "-o", f"jsonpath={fields}"),
        ]

    def __enter__(self) -> Self:
        self._kubectl = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._follow, name="watch")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kubectl.terminate()
        self._kubectl.wait()
        self._thread.join()

    def _follow(self) -> None:
        assert self._kubectl.stdout is not None
        for line in self._kubectl.stdout:
            self.seen(line.rstrip("\n"), time.monotonic())

    def seen(self, line: str, now: float) -> None:
        """An event came: its line of fields, and when."""
        raise NotImplementedError


class RunWatch(_Watch):
    """When the Snapshot of a name came, and when it had ended."""

    def __init__(self, kubectl: Kubectl, namespace: str, name: str) -> None:
        super().__init__(kubectl, namespace, "snapshots.lowtide.dev", ENDS)
        self._name = name
        self._made: float | None = None
        self._ended = 0.0
        self._over = threading.Event()

    def seen(self, line: str, now: float) -> None:
        name, end = line.split(" ")
        if name != self._name:
            return
        self._made = self._made or now
        if end and not self._over.is_set():
            self._ended = now
            self._over.set()

    def wait(self, within: float) -> tuple[float, float]:
        """Both moments, in monotonic seconds; TimeoutError where it has not ended in so many seconds."""
        if not self._over.wait(within) or self._made is None:
            raise TimeoutError(f"Snapshot {self._name} has not ended within {within:.0f} s")
        return self._made, self._ended


class PodWatch(_Watch):
    """The lives of the pods of one namespace."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        super().__init__(kubectl, namespace, "pods", FIELDS)
        self._lives: dict[str, Life] = {}

    def busy(self, began: float, ended: float, *, as_it_was: bool = False) -> float:
        """Seconds between two monotonic moments in which at least one pod was starting (from its object to Running) or
        stopping (from its deletion to its end), as the watch told; or `as_it_was` for movers, which the kubelet tells
        late."""
        lives = [*self._lives.values()]
        spans = [(life.made, (life.began if as_it_was else life.running) or ended) for life in lives]
        spans += [(life.stopping, life.gone or ended) for life in lives if life.stopping is not None]
        return covered((max(start, began), min(end, ended)) for start, end in spans)

    def ran(self, began: float) -> dict[str, dict[str, float]]:
        """For each of Lowtide's pods that was made after `began`, by its purpose: the seconds after it at which the pod
        was made, ran, had ended and was gone, as far as these came, and how long its mover worked."""
        return {life.purpose: life.told(began) for life in self._lives.values() if life.purpose and life.made >= began}

    def seen(self, line: str, now: float) -> None:
        what, uid, phase, deleted, purpose, message = line.split(" ", 5)
        life = self._lives.setdefault(uid, Life(now, purpose))
        if phase != "Pending" and life.running is None:
            life.running = now
        if (message or phase in ("Succeeded", "Failed")) and life.ended is None:
            life.ended = now
        if deleted != "deleted=" and life.stopping is None:
            life.stopping = now
        if what == "DELETED":
            life.gone = now
        if purpose and message:
            life.worked = decode(message).seconds


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of spans (start, end); one that ends before it starts counts nothing."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
