"""Which of some dated things are kept: restic's rules, as pure functions (fixtures/retention has its results).

Days, weeks and the like are those of the zone that each time is written in, as with restic: a snapshot that was taken
late in the evening counts for that evening wherever the rules are applied. Movers write UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Generic, Protocol, TypeVar

from lowtide_engine.errors import BadInput
from lowtide_engine.repository import Instant

UNLIMITED = -1
_SPAN_PART = re.compile(r"(-?\d{1,6})([ymdh])")
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)$")
_EPOCH_DAY = date(1970, 1, 1).toordinal()


class Dated(Protocol):
    """What rules are applied to."""

    @property
    def time(self) -> Instant: ...

    def has_tags(self, tags: Sequence[str]) -> bool:
        """Whether it has every one of the tags; the empty text stands for "has none"."""


_T = TypeVar("_T", bound=Dated)


class KeepsNothing(BadInput):
    """Rules that would remove everything."""

    reason = "KeepsNothing"
    default_hint = "give at least one --keep-… option that keeps something"


@dataclass(frozen=True, slots=True)
class Span:
    """Years, months, days and hours, counted on the calendar: `1y2m3d4h`. All zero is no span."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    @classmethod
    def parse(cls, text: str) -> Span:
        """From numbers with y, m, d or h behind each; raises ValueError with a sentence."""
        stripped = text.strip()
        parts = _SPAN_PART.findall(stripped)
        if "".join(number + unit for number, unit in parts) != stripped:
            raise ValueError(f"{text!r} is no span of time; write numbers with y, m, d or h, like 1y6m7d12h")
        given = {unit: int(number) for number, unit in parts}
        if any(number < 0 for number in given.values()):
            raise ValueError(f"{text!r} reaches into the future: numbers must not be negative")
        return cls(*(given.get(unit, 0) for unit in "ymdh"))

    def __str__(self) -> str:
        parts = ((self.years, "y"), (self.months, "m"), (self.days, "d"), (self.hours, "h"))
        return "".join(f"{number}{unit}" for number, unit in parts if number)

    def __bool__(self) -> bool:
        return self != Span()


@dataclass(frozen=True, slots=True)
class Rules:
    """What to keep; 0 and an empty span mean no such rule, -1 means all. `tags` are lists: all tags of one of them."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Span = Span()
    within_hourly: Span = Span()
    within_daily: Span = Span()
    within_weekly: Span = Span()
    within_monthly: Span = Span()
    within_yearly: Span = Span()
    tags: tuple[tuple[str, ...], ...] = ()

    def __bool__(self) -> bool:
        return self != Rules()

    def check(self) -> None:
        """Raise KeepsNothing for rules that keep nothing whatever there is, BadInput for a number below -1."""
        for counted in fields(self):
            value = getattr(self, counted.name)
            if isinstance(value, int) and value < UNLIMITED:
                raise BadInput(f"{value} {counted.name} can't be kept: give a number, or `unlimited`")
        if not self:
            raise KeepsNothing("these rules keep nothing, so nothing was removed")


@dataclass(slots=True)
class Decision(Generic[_T]):
    """One thing and why it is kept, in restic's words; it goes where there is no reason."""

    item: _T
    reasons: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether it stays."""
        return bool(self.reasons)


def decide(items: Sequence[_T], rules: Rules, now: Instant) -> list[Decision[_T]]:
    """Apply the rules to the things of one group; the decisions come newest first, equal times in the given order.

    Spans reach back from the newest that is not in the future of `now`. A rule that has counts left keeps the oldest of
    all too.
    """
    ordered = sorted(items, key=lambda item: item.time, reverse=True)
    latest = next((item.time for item in ordered if item.time < now), None)
    limits: list[_Counted | _Within] = [
        _Counted(getattr(rules, name), bucket, f"{name} snapshot") for name, bucket in _BUCKETS.items()
    ]
    limits += [
        _Within(span, _before(latest, span), bucket, f"{name} within")
        for name, bucket in _BUCKETS.items()
        if name != "last" and (span := getattr(rules, f"within_{name}"))
    ]
    within_from = _before(latest, rules.within)
    decisions = []
    for number, item in enumerate(ordered):
        reasons = [f"has tags [{', '.join(tags)}]" for tags in rules.tags if item.has_tags(tags)]
        if rules.within and item.time > within_from:
            reasons.append(f"within {rules.within}")
        oldest = number == len(ordered) - 1
        civil = _Civil.of(item.time, number)
        for limit in limits:
            reason = limit.reason(civil, item.time, oldest=oldest)
            if reason:
                reasons.append(reason)
        decisions.append(Decision(item, reasons))
    return decisions


@dataclass(frozen=True, slots=True)
class _Civil:
    """A time on the clock and calendar of its own zone, and its place in the order."""

    moment: datetime
    number: int

    @classmethod
    def of(cls, instant: Instant, number: int) -> _Civil:
        return cls(_civil(instant), number)


_Bucket = Callable[[_Civil], tuple[int, ...]]
_BUCKETS: dict[str, _Bucket] = {
    "last": lambda civil: (civil.number,),
    "hourly": lambda civil: civil.moment.timetuple()[:4],
    "daily": lambda civil: civil.moment.timetuple()[:3],
    "weekly": lambda civil: civil.moment.isocalendar()[:2],
    "monthly": lambda civil: civil.moment.timetuple()[:2],
    "yearly": lambda civil: (civil.moment.year,),
}


class _Counted:
    """So many hours, days … each of which keeps its newest."""

    def __init__(self, count: int, bucket: _Bucket, name: str) -> None:
        self._left = count
        self._bucket = bucket
        self._name = name
        self._seen: tuple[int, ...] | None = None

    def reason(self, civil: _Civil, _time: Instant, *, oldest: bool) -> str:
        if self._left == 0:
            return ""
        bucket = self._bucket(civil)
        repeated = bucket == self._seen
        if repeated and not oldest:
            return ""
        self._seen = bucket
        self._left -= self._left > 0
        return f"oldest {self._name}" if repeated else self._name


class _Within:
    """Each hour, day … after a point in time keeps its newest."""

    def __init__(self, span: Span, start: Instant, bucket: _Bucket, name: str) -> None:
        self._span = span
        self._start = start
        self._bucket = bucket
        self._name = name
        self._seen: tuple[int, ...] | None = None

    def reason(self, civil: _Civil, time: Instant, *, oldest: bool) -> str:
        if time <= self._start:
            return ""
        bucket = self._bucket(civil)
        repeated = bucket == self._seen
        if repeated and not oldest:
            return ""
        self._seen = bucket
        return f"{'oldest ' if repeated else ''}{self._name} {self._span}"


_LONG_AGO = Instant(-(10**15), 0, "")


def _before(latest: Instant | None, span: Span) -> Instant:
    """The point in time a span before `latest`, on the calendar of its zone: February 31 is March 3, as in Go. Without
    any `latest`, before everything."""
    if latest is None:
        return _LONG_AGO
    moment = _civil(latest)
    months = (moment.year - span.years) * 12 + moment.month - 1 - span.months
    days = _day_number(months // 12, months % 12 + 1) + moment.day - 1 - span.days
    since = moment.hour * 3600 + moment.minute * 60 + moment.second - span.hours * 3600
    offset = round((moment.utcoffset() or timedelta()).total_seconds())
    return Instant(days * 86400 + since - offset, latest.nanoseconds, "")


def _day_number(year: int, month: int) -> int:
    """Days from the epoch to the first of a month, also of years that `date` doesn't have."""
    inside = 2000 + year % 400
    return date(inside, month, 1).toordinal() - _EPOCH_DAY + (year - inside) // 400 * 146097


def _civil(instant: Instant) -> datetime:
    """The time in the zone that it is written in; UTC where that leaves the years 1 to 9999."""
    match = _OFFSET.search(instant.text)
    if match is None:
        return instant.datetime()
    minutes = int(match[2]) * 60 + int(match[3])
    try:
        return instant.datetime(timezone(timedelta(minutes=minutes if match[1] == "+" else -minutes)))
    except OverflowError:
        return instant.datetime(UTC)
