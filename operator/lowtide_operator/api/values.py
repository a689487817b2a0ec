"""Single values of the API as annotated types: how each is parsed, written back, and described to the API server.

Every type checks the same thing twice, from one place: in Python when a body is parsed, and by a CEL rule with the same
sentence that api/crd.py writes into the custom resource definition.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

RULES = "x-kubernetes-validations"

_DURATION = r"^([0-9]{1,6}(h|m|s)){1,3}$"
_UNITS = {"h": "hours", "m": "minutes", "s": "seconds"}


def parse_duration(text: object) -> timedelta:
    """The span that `text` names: whole hours, minutes and seconds as in `90s`, `30m`, `1h30m`. Raises ValueError."""
    if isinstance(text, timedelta):
        return text
    if not isinstance(text, str) or not re.fullmatch(_DURATION, text):
        raise ValueError(f"{text!r} is no duration: write it like 90s, 30m or 1h30m")
    return sum(
        (timedelta(**{_UNITS[unit]: int(count)}) for count, unit in re.findall(r"([0-9]+)([hms])", text)), timedelta()
    )


def format_duration(span: timedelta) -> str:
    """`span` as `1h30m`; fractions of a second are cut off, and nothing is `0s`. Raises ValueError for a negative
    span."""
    total = int(span.total_seconds())
    if total < 0:
        raise ValueError(f"a duration can't be negative: {span}")
    hours, rest = divmod(total, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"


def parse_time(value: object) -> datetime:
    """The instant that `value` (RFC 3339 with an offset, or a datetime that has one) names, in UTC. Raises
    ValueError."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"{value!r} is no point in time: write it like 2026-11-25T02:00:00Z")
    return value.astimezone(UTC)


def format_time(value: datetime) -> str:
    """`value` as Kubernetes writes times: UTC, whole seconds, `Z`."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(value: datetime) -> str:
    """`value` in UTC to the microsecond, as Kubernetes' MicroTime."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _rule(cel: str, sentence: str) -> dict[str, Any]:
    return {RULES: [{"rule": cel, "message": sentence}]}


def _matching(pattern: str, sentence: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{value!r}: {sentence}")
        return value

    return check


def _text(pattern: str, sentence: str, *, longest: int) -> Any:
    """A string type that matches `pattern`, is 1 to `longest` characters long, and is refused with `sentence`."""
    quoted = pattern.replace("\\", "\\\\").replace("'", "\\'")
    return Annotated[
        str,
        Field(min_length=1, max_length=longest, json_schema_extra=_rule(f"self.matches('{quoted}')", sentence)),
        AfterValidator(_matching(pattern, sentence)),
    ]


_DURATION_SENTENCE = "must be longer than nothing and written like 90s, 30m or 1h30m"


def _more_than_nothing(span: timedelta) -> timedelta:
    if span <= timedelta():
        raise ValueError(_DURATION_SENTENCE)
    return span


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    AfterValidator(_more_than_nothing),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 24,
            **_rule(f"self.matches('{_DURATION}') && duration(self) > duration('0s')", _DURATION_SENTENCE),
        }
    ),
]
"""A span of time that a person wrote: more than zero, in whole seconds."""

Elapsed = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "maxLength": 24}),
]
"""A span of time that was measured: may be zero."""

Timestamp = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A point in time, to the second."""

_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"
_QUANTITY_SENTENCE = "must be a quantity like 500m, 256Mi or 10Gi"


def _quantity(value: object) -> str:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(_QUANTITY, text):
        raise ValueError(f"{value!r}: {_QUANTITY_SENTENCE}")
    return text


Quantity = Annotated[
    str,
    BeforeValidator(_quantity),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            **_rule(
                f"type(self) == int ? self >= 0 : string(self).matches('{_QUANTITY.replace(chr(92), chr(92) * 2)}')",
                _QUANTITY_SENTENCE,
            ),
        }
    ),
]
"""A Kubernetes quantity, kept as text; a bare number is accepted."""

_LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$"
_LABEL_KEY = r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
_SUBDOMAIN = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"
_NAME_SENTENCE = "must be the name of an object: lower-case letters, digits, '-' and '.'"

Name = _text(_SUBDOMAIN, _NAME_SENTENCE, longest=253)
"""The name of a Kubernetes object."""

PolicyName = _text(_SUBDOMAIN, _NAME_SENTENCE, longest=40)
"""The name of a BackupPolicy: 40 characters, so that `<policy>-<yyyymmddhhmm>` stays a good name."""

LabelKey = _text(_LABEL_KEY, "must be a label's key, like app.kubernetes.io/name", longest=317)
_LABEL_VALUE_SENTENCE = "must be a label's value: letters, digits, '-', '_' and '.'"
LabelValue = Annotated[
    str,
    Field(max_length=63, json_schema_extra=_rule(f"self.matches('{_LABEL_VALUE}')", _LABEL_VALUE_SENTENCE)),
    AfterValidator(_matching(_LABEL_VALUE, _LABEL_VALUE_SENTENCE)),
]

_CRON_FIELD = r"[0-9A-Za-z*,/#()-]{1,80}"
Schedule = _text(
    rf"^(@(hourly|daily|midnight|weekly|monthly|yearly|annually)|{_CRON_FIELD}( {_CRON_FIELD}){{4}})$",
    "must be five cron fields like '0 2 * * *' ('H' spreads by name)"
    " or one of @hourly, @daily, @weekly, @monthly, @yearly",
    longest=256,
)
"""A schedule of a plausible shape; planning.schedule knows whether it can be met."""

TimeZone = _text(
    r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$",
    "must be the name of a time zone like UTC or Europe/Berlin",
    longest=64,
)

Tag = _text(
    r"^[^,\s]([^,]*[^,\s])?$",
    "must not hold a comma, nor begin or end with a space",
    longest=100,
)

StreamName = _text(
    r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
    "must be the name of a file: letters, digits, '-', '_' and '.'",
    longest=63,
)

SnapshotId = _text(r"^[0-9a-f]{8,64}$", "must be a snapshot's id: 8 to 64 hexadecimal digits", longest=64)

AbsolutePath = _text(r"^/.*$", "must be an absolute path, on one line", longest=4096)

Pattern = Annotated[str, Field(min_length=1, max_length=1024)]
"""A pattern of paths, as restic's --include and --exclude understand them."""
