"""When a policy is due: cron with `H` and @-names, in a time zone, with daylight saving as Debian's cron handles it.

A job at a fixed time that the spring's gap swallows runs right after the gap; one in the autumn's repeated hour runs
once. Jobs whose minute or hour is a `*` run by the wall clock's elapsed time.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

NAMED = {
    "@hourly": "H * * * *",
    "@daily": "H H * * *",
    "@midnight": "H H(0-2) * * *",
    "@weekly": "H H * * H",
    "@monthly": "H H H * *",
    "@yearly": "H H H H *",
    "@annually": "H H H H *",
}

_HASHED_RANGES = ((0, 59), (0, 23), (1, 28), (1, 12), (0, 6))
"""Of `H` in each field, inclusive. Days end at 28, so that every month has one."""

_HASHED = re.compile(r"^H(?:\((\d+)-(\d+)\))?(?:/(\d+))?$")

_WINDOWS = tuple(timedelta(days=days) for days in (0.1, 1.2, 8, 32, 400, 9 * 366))
"""How far back the last slot is looked for. The rarest, 29 February around a century's end, is eight years away."""

_SHIFT = timedelta(hours=3)
"""More than any change of the clocks: iteration starts this much earlier, so that a repeated hour can't hide a
slot."""


class ScheduleError(ValueError):
    """A schedule or a time zone that can't be followed: one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule that can be followed. `expression` is five plain cron fields."""

    expression: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> datetime | None:
        """The first slot after `moment`, in UTC; None if there is none within 50 years."""
        for slot in CronSim(self.expression, (moment - _SHIFT).astimezone(self.zone)):
            at = slot.astimezone(UTC)
            if at > moment:
                return at
        return None

    def latest(self, moment: datetime) -> datetime | None:
        """The last slot at `moment` or before, in UTC; None if there was none in nine years."""
        for window in _WINDOWS:
            found = None
            for slot in CronSim(self.expression, (moment - window).astimezone(self.zone)):
                at = slot.astimezone(UTC)
                if at > moment:
                    break
                found = at
            if found is not None:
                return found
        return None


def parse_schedule(text: str, time_zone: str, namespace: str, name: str) -> Schedule:
    """The schedule that `text` says for the policy `namespace`/`name`; raises ScheduleError.

    `H` stands for a number that depends on the policy's namespace and name only; so do the @-names.
    """
    fields = NAMED.get(text.strip(), text).split()
    if len(fields) != 5:
        raise ScheduleError(f"The schedule {text!r} is neither five cron fields nor one of {', '.join(NAMED)}.")
    expression = " ".join(
        ",".join(_without_hash(part, index, f"{namespace}/{name}", text) for part in field.split(","))
        for index, field in enumerate(fields)
    )
    try:
        zone = ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError) as error:
        raise ScheduleError(f"The time zone {time_zone!r} is not known; write it like Europe/Berlin.") from error
    try:
        schedule = Schedule(expression, zone)
        never = schedule.after(datetime(2024, 1, 1, tzinfo=UTC)) is None
    except CronSimError as error:
        raise ScheduleError(f"The schedule {text!r} can't be read: {error}.") from error
    if never:
        raise ScheduleError(f"The schedule {text!r} names a day that never comes.")
    return schedule


def snapshot_name(policy: str, slot: datetime) -> str:
    """`<policy>-<yyyymmddhhmm>` of the slot in UTC."""
    return f"{policy}-{slot.astimezone(UTC):%Y%m%d%H%M}"


def _without_hash(part: str, index: int, seed: str, text: str) -> str:
    match = _HASHED.match(part)
    if match is None:
        return part
    low, high = _HASHED_RANGES[index]
    if match[1] is not None:
        low, high = int(match[1]), int(match[2])
    if low > high:
        raise ScheduleError(f"The schedule {text!r} has a range that ends before it begins: {part}.")
    digest = int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:8], "big")
    if match[3] is None:
        return str(low + digest % (high - low + 1))
    step = int(match[3])
    if not 0 < step <= high - low + 1:
        raise ScheduleError(f"The schedule {text!r} has a step that does not fit its range: {part}.")
    return f"{low + digest % step}-{high}/{step}"
