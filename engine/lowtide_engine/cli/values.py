"""What option values may look like: sizes, durations, points in time, tags. As restic writes them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, NoReturn

import click

_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_GROUP_KEYS = {"host": "host", "hosts": "host", "path": "paths", "paths": "paths", "tag": "tags", "tags": "tags"}
RESERVED_TAG_PREFIX = "lowtide:"


class Value(click.ParamType[Any]):
    """A parameter type made of a function that raises ValueError with a sentence."""

    def __init__(self, name: str, parse: Any) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self._refuse(str(error), param, ctx)

    def _refuse(self, message: str, param: click.Parameter | None, ctx: click.Context | None) -> NoReturn:
        self.fail(message, param, ctx)


def parse_size(text: str) -> int:
    """`10M` in bytes; k, m, g and t are powers of 1024, a B behind them is allowed."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is no size; write a number and one of k, M, G, T, like 10M")
    return int(float(match[1]) * (1 << _UNITS[match[2]]))


def parse_duration(text: str) -> float:
    """`1h30m` in seconds."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise ValueError(f"{text!r} is no duration; write numbers with h, m or s, like 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_time(text: str) -> datetime:
    """`2012-11-01 22:08:41`, a date alone, RFC 3339, or `now`; local time where no zone is given. Has a zone."""
    if text == "now":
        return datetime.now().astimezone()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write it like '2012-11-01 22:08:41'") from None
    return moment if moment.tzinfo is not None else moment.astimezone()


def parse_tags(text: str) -> tuple[str, ...]:
    """`a,b` as its tags. As in restic, a filter's empty tag stands for "has none": a new snapshot has none such."""
    return tuple(tag.strip() for tag in text.split(","))


def parse_group_by(text: str) -> tuple[str, ...]:
    """`host,paths` as its keys, each once; restic's other names for them are understood."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in _GROUP_KEYS:
            raise ValueError(f"snapshots are grouped by host, paths and tags, not by {name!r}")
    return tuple(dict.fromkeys(_GROUP_KEYS[name] for name in names))


def parse_name(text: str) -> str:
    """A name; none would leave a restriction out, such as that of a variable that isn't set."""
    if not text:
        raise ValueError("it is empty; leave the option out, or give a name")
    return text


def refuse_reserved(tags: list[str], *, option: str = "--tag") -> list[str]:
    """`tags`, unless one starts like those by which Lowtide finds its own snapshots."""
    for tag in tags:
        if tag.startswith(RESERVED_TAG_PREFIX):
            raise click.BadParameter(
                f"the tag {tag!r} is refused: tags that start with {RESERVED_TAG_PREFIX!r} say whose a snapshot is; "
                "use --cluster, --namespace, --policy, --run, --claim and --stream for them, or another tag",
                param_hint=f"'{option}'",
            )
    return tags


SIZE = Value("size", parse_size)
DURATION = Value("duration", parse_duration)
TIME = Value("time", parse_time)
TAGS = Value("tags", parse_tags)
NAME = Value("name", parse_name)
GROUP_BY = Value("keys", parse_group_by)
