"""What a worker is asked to look at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.kinds import Kind


class Subject(StrEnum):
    """The four things that have a planner. ORPHANS is the namespace's held workloads; its key has no name."""

    POLICY = "BackupPolicy"
    SNAPSHOT = "Snapshot"
    RESTORE = "Restore"
    ORPHANS = "Orphans"


KIND_OF: dict[Subject, Kind] = {
    Subject.POLICY: kinds.BACKUP_POLICY,
    Subject.SNAPSHOT: kinds.SNAPSHOT,
    Subject.RESTORE: kinds.RESTORE,
}


@dataclass(frozen=True, slots=True)
class Key:
    """One subject in one namespace."""

    subject: Subject
    namespace: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.subject} {self.namespace}/{self.name}" if self.name else f"{self.subject} of {self.namespace}"
