"""What the watch reports, turned into keys: which object to look at because of what was seen.

Called on the event loop of the workers. Nothing here is evidence: a report only says that looking may be worth while.
"""

from __future__ import annotations

from collections.abc import Mapping

from lowtide_operator.planning.naming import RUN_LABEL
from lowtide_operator.reconcile.driver import Driver
from lowtide_operator.reconcile.heartbeat import BEAT_ANNOTATION, Heartbeat
from lowtide_operator.reconcile.keys import Key, Subject
from lowtide_operator.reconcile.queue import WorkQueue


class Inbox:
    """Feeds `queue`. Remembers which uid is which run, so that a mover's pod or Job wakes its run."""

    def __init__(self, queue: WorkQueue[Key], driver: Driver, heartbeat: Heartbeat) -> None:
        self._queue = queue
        self._driver = driver
        self._heartbeat = heartbeat
        self._runs: dict[str, Key] = {}

    def policy(self, namespace: str, name: str, resource_version: str) -> None:
        """A BackupPolicy was made, changed or deleted."""
        self._look(Key(Subject.POLICY, namespace, name), resource_version)

    def run(
        self, subject: Subject, namespace: str, name: str, uid: str, resource_version: str, policy: str, *, gone: bool
    ) -> None:
        """A Snapshot or Restore was made, changed or deleted; its policy (if it has one) counts it."""
        key = Key(subject, namespace, name)
        if gone:
            self._runs.pop(uid, None)
        else:
            self._runs[uid] = key
        if self._look(key, resource_version) and policy:
            self._queue.add(Key(Subject.POLICY, namespace, policy))

    def child(self, labels: Mapping[str, str]) -> None:
        """A Job or pod with these labels was made, changed or deleted."""
        key = self._runs.get(labels.get(RUN_LABEL, ""))
        if key is not None:
            self._queue.add(key)

    def lease(self, name: str, annotations: Mapping[str, str]) -> None:
        """A Lease of ours was made or changed."""
        self._heartbeat.heard(name, annotations.get(BEAT_ANNOTATION))

    def _look(self, key: Key, resource_version: str) -> bool:
        if self._driver.settled(key, resource_version):
            return False
        self._queue.add(key)
        return True
