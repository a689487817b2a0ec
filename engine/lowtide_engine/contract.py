"""What a mover says at its end: one JSON document, which the operator reads from the termination message.

The only module of the engine that the operator imports. A document is under 4096 bytes (the kubelet cuts longer ones)
and carries a version; a reader understands VERSION and VERSION - 1. Logs are never evidence: only this document is.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

VERSION = 1
MAX_BYTES = 4095
MAX_WARNINGS = 10
MOST = 2**63
"""Numbers are below: Kubernetes has none that are larger."""

RESULT_FILE_VARIABLE = "LOWTIDE_RESULT_FILE"
"""Environment variable that names the file into which every command writes its result, if set."""


class Outcome(StrEnum):
    """How a mover ended. PARTIAL is no success: a stored snapshot that lacks what could not be read, or restored data
    of which some owners, modes, times or attributes could not be set."""

    OK = "ok"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """One mover's result. Sizes in bytes, times in seconds; `reason` is CamelCase, `message` one sentence."""

    command: str
    outcome: Outcome
    reason: str
    message: str = ""
    repository_id: str = ""
    snapshot_ids: list[str] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    added_bytes: int = 0
    seconds: float = 0.0
    errors: int = 0
    warnings: list[str] = field(default_factory=list)


class ContractError(ValueError):
    """A document that is no result, or one of a version that this side does not read."""


def encode(result: Result) -> bytes:
    """The document for `result`, at most MAX_BYTES long: warnings, then the message, are shortened until it fits."""
    warnings = [_shortened(text, 300) for text in result.warnings[:MAX_WARNINGS]]
    message = _shortened(result.message, 1000)
    while True:
        document = {"version": VERSION, **asdict(result), "warnings": warnings, "message": message}
        data = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
        if len(data) <= MAX_BYTES:
            return data
        if warnings:
            warnings = warnings[:-1]
        elif len(message) > 100:
            message = _shortened(message, len(message) // 2)
        else:
            raise ContractError(f"the result of {result.command} does not fit into {MAX_BYTES} bytes")


def decode(data: bytes | str) -> Result:
    """Read a document back. Raises ContractError where it is cut, of another shape, or of an unknown version."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"the mover's result is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ContractError("the mover's result is not a JSON object")
    version = document.get("version")
    if version not in (VERSION, VERSION - 1):
        raise ContractError(
            f"the mover's result has version {version!r}, this operator reads {VERSION - 1} and {VERSION}"
        )
    kinds = {f.name: f.type for f in fields(Result)}
    try:
        values = {name: _of_kind(kinds[name], value) for name, value in document.items() if name in kinds}
        return Result(**values)
    except (TypeError, ValueError) as error:
        raise ContractError(f"the mover's result lacks a field or has one of another kind: {error}") from error


def _of_kind(kind: object, value: Any) -> Any:
    """`value` as a field of a Result. Raises ValueError where it is none, or no number that Kubernetes can keep."""
    if kind is Outcome:
        return Outcome(value)
    if kind is float and type(value) in (int, float) and 0 <= value < MOST:
        return float(value)
    if kind is int and type(value) is int and 0 <= value < MOST:
        return value
    if kind is str and type(value) is str:
        return value
    if kind == list[str] and type(value) is list and all(type(text) is str for text in value):
        return value
    raise ValueError(f"{value!r:.100} is no {kind}")


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
