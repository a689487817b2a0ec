"""What the watch reports, turned into keys: which object to look at because of what was seen.

Called on the event loop of the workers. Nothing here is evidence: a report only says that looking may be worth while.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lowtide_operator.planning.naming import RUN_LABEL
from lowtide_operator.reconcile.driver import Driver
from lowtide_operator.reconcile.heartbeat import BEAT_ANNOTATION, Heartbeat
from lowtide_operator.reconcile.keys import Key, Subject
from lowtide_operator.reconcile.queue import WorkQueue


@dataclass(frozen=True, slots=True)
class Seen:
    """An object of ours as an event told of it; `gone` where the event is its end."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    gone: bool = False


class Inbox:
    """Feeds `queue`. Remembers which uid is which run, so that a mover's pod or Job wakes its run."""

    def __init__(self, queue: WorkQueue[Key], driver: Driver, heartbeat: Heartbeat) -> None:
        self._queue = queue
        self._driver = driver
        self._heartbeat = heartbeat
        self._runs: dict[str, Key] = {}

    def policy(self, seen: Seen) -> None:
        """A BackupPolicy was made, changed or deleted."""
        self._look(Key(Subject.POLICY, seen.namespace, seen.name), seen)

    def run(self, subject: Subject, seen: Seen, policy: str) -> None:
        """A Snapshot or Restore was made, changed or deleted; its policy (if it has one) counts it.

        One that is gone may have left a hold behind.
        """
        key = Key(subject, seen.namespace, seen.name)
        if seen.gone:
            self._runs.pop(seen.uid, None)
            self._queue.add(Key(Subject.ORPHANS, seen.namespace))
        else:
            self._runs[seen.uid] = key
        if self._look(key, seen) and policy:
            self._queue.add(Key(Subject.POLICY, seen.namespace, policy))

    def child(self, labels: Mapping[str, str]) -> None:
        """A Job or pod with these labels was made, changed or deleted."""
        key = self._runs.get(labels.get(RUN_LABEL, ""))
        if key is not None:
            self._queue.add(key)

    def lease(self, name: str, annotations: Mapping[str, str]) -> None:
        """A Lease of ours was made or changed."""
        self._heartbeat.heard(name, annotations.get(BEAT_ANNOTATION))

    def _look(self, key: Key, seen: Seen) -> bool:
        settled = self._driver.settled(key, seen.resource_version)
        if not seen.gone and (settled or self._driver.held_off(key, seen.generation)):
            return False
        self._queue.add(key)
        return True
