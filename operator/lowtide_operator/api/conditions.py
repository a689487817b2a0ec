"""Conditions, in the shape of metav1.Condition, and how one set of them becomes the next."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from lowtide_operator.api.model import Model
from lowtide_operator.api.values import Timestamp

MAX_MESSAGE = 32768
"""Characters of a message, as metav1.Condition has it. Few come near: those that say a command for each workload."""


class Truth(StrEnum):
    """The status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """One observation about an object."""

    type: str = Field(max_length=316, pattern=r"^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")
    """What is observed, such as Ready."""
    status: Truth
    """Whether it is so: True, False or Unknown."""
    observed_generation: int | None = None
    """The metadata.generation that this was observed at."""
    last_transition_time: Timestamp
    """When the status last changed."""
    reason: str = Field(max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    """Why, as one CamelCase word for programs."""
    message: str = Field(max_length=MAX_MESSAGE)
    """Why, as a sentence for a person."""


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of type `kind`, or None."""
    return next((condition for condition in conditions if condition.type == kind), None)


def is_true(conditions: Iterable[Condition], kind: str) -> bool:
    """Whether there is a condition of type `kind` and it is True."""
    condition = find(conditions, kind)
    return condition is not None and condition.status is Truth.TRUE


def with_condition(
    conditions: tuple[Condition, ...],
    kind: str,
    status: Truth,
    reason: str,
    message: str,
    *,
    now: datetime,
    generation: int | None = None,
) -> tuple[Condition, ...]:
    """`conditions` with the one of type `kind` set, at its place or at the end.

    lastTransitionTime is `now` only where the status changed; a message longer than MAX_MESSAGE is cut.
    """
    former = find(conditions, kind)
    since = (
        former.last_transition_time if former is not None and former.status is status else now.replace(microsecond=0)
    )
    new = Condition(
        type=kind,
        status=status,
        reason=reason,
        message=shortened(message, MAX_MESSAGE),
        last_transition_time=since,
        observed_generation=generation,
    )
    if former is None:
        return (*conditions, new)
    return tuple(new if condition.type == kind else condition for condition in conditions)


def shortened(text: str, length: int) -> str:
    """`text`, cut where it is longer, and marked so."""
    return text if len(text) <= length else text[: max(0, length - 1)] + "…"


def without_condition(conditions: tuple[Condition, ...], kind: str) -> tuple[Condition, ...]:
    """`conditions` without the one of type `kind`: for those that are shown only while they are true."""
    return tuple(condition for condition in conditions if condition.type != kind)
