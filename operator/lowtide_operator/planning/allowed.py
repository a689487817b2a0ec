"""What an installation may do to what is not its own, as its chart says."""

from __future__ import annotations

from enum import StrEnum


class ArgoMode(StrEnum):
    """What is done about workloads that Argo CD applies with their count: they are refused, their Application is
    paused, or nothing, because Argo CD was told to leave counts alone."""

    REFUSE = "Refuse"
    PAUSE = "Pause"
    IGNORE = "Ignore"
