"""The operator's errors: one tree, each with a reason for a condition, and whether trying again can help.

The rim (reconcile/) turns them into conditions; nothing else maps errors to reasons. The engine has a tree of its own.
"""

from __future__ import annotations

from typing import ClassVar


class LowtideError(Exception):
    """What failed, on what and why, in one or two sentences for a person; `hint` says what to do next.

    `reason` is the CamelCase reason of a condition. `retryable` says whether the same call may succeed later unchanged.
    """

    reason: ClassVar[str] = "InternalError"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InvalidObject(LowtideError):
    """An object of ours whose spec or status does not parse: the custom resource definition let it through, or it is
    older."""

    reason = "InvalidSpec"
