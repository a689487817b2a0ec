"""Times and JSON as Go writes them, so that our files look like restic's (restic-format 1.8)."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import total_ordering

from lowtide_engine.errors import RepositoryDamaged

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REPLACED = "lowtide-as-go"


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Instant:
    """A point in time to the nanosecond, with the text it came as. Compared by the instant, whatever the zone of
    the text.
    """

    seconds: int
    nanoseconds: int
    text: str

    @classmethod
    def parse(cls, text: str) -> Instant:
        """Read RFC 3339; RepositoryDamaged where it isn't. Digits beyond the ninth are cut, as Go does."""
        match = _RFC3339.fullmatch(text)
        if match is None:
            raise RepositoryDamaged(f"not a time: {text[:40]!r}")
        year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
        offset = 0
        if match[9]:
            if int(match[10]) > 23 or int(match[11]) > 59:
                raise RepositoryDamaged(f"not a time: {text[:40]!r}")
            offset = (int(match[10]) * 60 + int(match[11])) * (60 if match[9] == "+" else -60)
        try:
            # Year 0 is a year in Go (its zero time is year 1), not in Python; 400 years are always 146097 days.
            moment = datetime(year or 400, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            raise RepositoryDamaged(f"not a time: {text[:40]!r}") from None
        days_off = 0 if year else 146097
        seconds = round((moment - _EPOCH).total_seconds()) - days_off * 86400 - offset
        return cls(seconds, int((match[7] or "0")[:9].ljust(9, "0")), text)

    @classmethod
    def of(cls, moment: datetime) -> Instant:
        """From an aware datetime, written in its own zone."""
        if moment.tzinfo is None:
            raise ValueError("a time without a zone is no instant")
        since = moment - _EPOCH
        seconds = since.days * 86400 + since.seconds
        fraction = f".{moment.microsecond:06d}".rstrip("0").rstrip(".")
        offset = moment.utcoffset() or timedelta()
        minutes = round(offset.total_seconds() / 60)
        zone = "Z" if minutes == 0 else f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
        return cls(seconds, moment.microsecond * 1000, f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}{fraction}{zone}")

    @classmethod
    def at(cls, timestamp: float) -> Instant:
        """From seconds since the epoch, in UTC."""
        return cls.of(datetime.fromtimestamp(timestamp, UTC))

    @property
    def timestamp(self) -> float:
        """Seconds since the epoch."""
        return self.seconds + self.nanoseconds / 1e9

    def datetime(self, zone: timezone = UTC) -> datetime:
        """For people; cut to microseconds and to the years 1 to 9999."""
        low, high = -62135596800, 253402300799
        inside = min(max(self.seconds, low), high)
        return (_EPOCH + timedelta(seconds=inside, microseconds=self.nanoseconds // 1000)).astimezone(zone)

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Instant) and self._key == other._key

    def __lt__(self, other: Instant) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[int, int]:
        return self.seconds, self.nanoseconds


def go_json(value: object) -> bytes:
    """Compact JSON as encoding/json's Marshal writes it: keys in the given order, <, > and & escaped, lone
    surrogates replaced.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", _REPLACED)


def _as_go_does(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return b"\\ufffd" * (error.end - error.start), error.end


codecs.register_error(_REPLACED, _as_go_does)
