"""What the log of a mover tells (each line after its time): how far it is, and what it said last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lowtide_operator.api.values import parse_time
from lowtide_operator.planning.observed_pods import MoverProgress

LAST_WORDS = 200


def mover_progress(log: str, began: datetime | None = None) -> MoverProgress | None:
    """What the end of a mover's log says (each line after its time): when it last said anything in JSON, and the
    numbers of its newest status line. Where it says nothing, only when it `began` to run; None where that is not known
    either."""
    newest: datetime | None = None
    for line in reversed(log.splitlines()):
        time, _, text = line.partition(" ")
        if not text.lstrip().startswith("{"):
            continue
        try:
            newest = newest or parse_time(time)
            told = json.loads(text)
        except ValueError:
            continue
        if told.get("message_type") == "status":
            return _numbers(newest, told)
    newest = newest or began
    return None if newest is None else MoverProgress(newest)


def last_words(log: str) -> str:
    """The newest line of a mover's log (each after its time) that is for a person, at most LAST_WORDS characters: what
    it waits for, or what failed, where it says nothing more. Empty where there is none."""
    for line in reversed(log.splitlines()):
        text = line.partition(" ")[2].strip()
        try:
            told = json.loads(text)
        except ValueError:
            told = {"message": text}
        if not isinstance(told, dict) or told.get("message_type") in ("status", "summary"):
            continue
        error = told.get("error")
        said = told.get("message") or (error.get("message") if isinstance(error, dict) else None)
        if isinstance(said, str) and said:
            return said if len(said) <= LAST_WORDS else said[: LAST_WORDS - 1] + "…"
    return ""


def _numbers(time: datetime, status: Mapping[str, Any]) -> MoverProgress:
    """The numbers of a status line; what a line of another version lacks, or says otherwise, is not known."""

    def number(*names: str) -> int:
        found = next((status[name] for name in names if type(status.get(name)) is int), 0)
        return max(0, found)

    share = status.get("percent_done")
    percent = min(100, int(share * 100)) if isinstance(share, int | float) and share > 0 else None
    return MoverProgress(
        time,
        files=number("files_done", "files_restored"),
        bytes=number("bytes_done", "bytes_restored"),
        total_bytes=number("total_bytes") if percent is not None else None,
        percent=percent,
    )
