"""Which snapshots retention rules remove: pure, and in whole runs.

The rules count units: a snapshot that no run of Lowtide wrote, or all snapshots of one run with the verdict that names
them. A unit that is flawed (partial, without a verdict, or missing a member) never counts, so it never takes the place
of a whole one; and it only goes where something whole and newer stays (design: nothing is lost).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lowtide_engine.repository import Instant, Snapshot, SnapshotFilter
from lowtide_engine.retention import Decision, KeepsNothing, Rules, decide
from lowtide_engine.standing import MEMBER_PREFIX, PARTIAL_TAG, RUN_PREFIX, TAG_PREFIX, VERDICT_TAG, value_of

UNDER_WAY_SECONDS = 24 * 3600
"""A flawed unit with a snapshot younger than this may belong to a run that isn't over."""

_EACH_RUN_ANEW = (RUN_PREFIX, MEMBER_PREFIX, VERDICT_TAG, PARTIAL_TAG)
_WHOSE = tuple(f"{TAG_PREFIX}{name}=" for name in ("cluster", "namespace", "policy"))


class GroupKey(NamedTuple):
    """What the units of a group have in common; what isn't grouped by is empty. `owner` are the tags that say whose
    they are, by which units are grouped in any case: two policies may store the same paths.
    """

    host: str
    paths: tuple[str, ...]
    tags: tuple[str, ...]
    owner: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"host {self.host}"] if self.host else []
        parts += [f"paths {', '.join(self.paths)}"] if self.paths else []
        parts += [f"tags {', '.join(self.tags)}"] if self.tags else []
        parts += [tag for tag in self.owner if tag not in self.tags]
        return ", ".join(parts) or "all snapshots"


@dataclass(frozen=True, slots=True)
class Unit:
    """Snapshots that are kept or removed together. `flaw` is a sentence's predicate, "" for what counts."""

    members: tuple[Snapshot, ...]
    verdicts: tuple[Snapshot, ...] = ()
    run: str = ""
    flaw: str = ""

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """All of them, verdicts first: removed in this order, a run that is half gone is no longer called whole."""
        return (*self.verdicts, *self.members)

    @property
    def time(self) -> Instant:
        """When it was begun: the time of its first member."""
        return min(snapshot.time for snapshot in self.members or self.verdicts)

    @property
    def newest(self) -> Instant:
        """When its last snapshot was made."""
        return max(snapshot.time for snapshot in self.snapshots)

    def has_tags(self, tags: Sequence[str]) -> bool:
        """Whether one of its snapshots has all the tags."""
        return any(snapshot.has_tags(tags) for snapshot in self.members or self.verdicts)

    def key(self, by: Sequence[str]) -> GroupKey:
        """The group it belongs to: of a run, its owner and the hosts, paths and tags of all members, without tags that
        each run has anew."""
        seen = self.members or self.verdicts
        tags = {tag for snapshot in seen for tag in snapshot.tags if not tag.startswith(_EACH_RUN_ANEW)}
        return GroupKey(
            host=", ".join(sorted({snapshot.hostname for snapshot in seen})) if "host" in by else "",
            paths=tuple(sorted({path for snapshot in seen for path in snapshot.paths})) if "paths" in by else (),
            tags=tuple(sorted(tags)) if "tags" in by else (),
            owner=tuple(sorted(tag for tag in tags if tag.startswith(_WHOSE))),
        )


@dataclass(slots=True)
class Group:
    """The decisions about one group, newest first."""

    key: GroupKey
    decisions: list[Decision[Unit]] = field(default_factory=list)

    def snapshots(self, *, kept: bool) -> list[Snapshot]:
        """The snapshots that stay, or those that go, in the order in which they are removed."""
        return [snap for decision in self.decisions if decision.kept is kept for snap in decision.item.snapshots]


@dataclass(slots=True)
class Expiry:
    """What the rules say. `left_alone` are runs of which the filter selects a part only."""

    groups: list[Group] = field(default_factory=list)
    left_alone: list[Unit] = field(default_factory=list)

    @property
    def removed(self) -> list[Snapshot]:
        """The snapshots that go."""
        return [snapshot for group in self.groups for snapshot in group.snapshots(kept=False)]


def plan_expiry(
    snapshots: Sequence[Snapshot],
    rules: Rules,
    now: Instant,
    *,
    only: SnapshotFilter | None = None,
    by: Sequence[str] = ("host", "paths"),
    allow_partial: bool = False,
) -> Expiry:
    """Apply the rules to all snapshots of a repository that `only` selects, group by group.

    `allow_partial` counts partial snapshots as if they were whole. Raises KeepsNothing where the rules would remove
    everything that counts in a group.
    """
    rules.check()
    chosen = only or SnapshotFilter()
    expiry = Expiry()
    selected = []
    for unit in units(snapshots, allow_partial=allow_partial):
        matching = [chosen.matches(snapshot) for snapshot in unit.members or unit.verdicts]
        if all(matching):
            selected.append(unit)
        elif any(matching):
            expiry.left_alone.append(unit)
    sound: dict[GroupKey, list[Unit]] = {}
    for unit in selected:
        if not unit.flaw:
            sound.setdefault(unit.key(by), []).append(unit)
    flawed: dict[GroupKey, list[Unit]] = {}
    for unit in selected:
        if unit.flaw:
            flawed.setdefault(_group_of_flawed(unit, unit.key(by), sound), []).append(unit)
    for key in dict.fromkeys((*sound, *flawed)):
        expiry.groups.append(_decide_group(key, sound.get(key, []), flawed.get(key, []), rules, now))
    return expiry


def units(snapshots: Iterable[Snapshot], *, allow_partial: bool = False) -> list[Unit]:
    """All snapshots as what is kept or removed together, oldest first."""
    runs: dict[str, list[Snapshot]] = {}
    found = []
    for snapshot in snapshots:
        run = value_of(snapshot, RUN_PREFIX)
        if run:
            runs.setdefault(run, []).append(snapshot)
        else:
            found.append(Unit((snapshot,), flaw=_partial((snapshot,), allow_partial)))
    for run, of_run in runs.items():
        found += _units_of_run(run, of_run, allow_partial)
    return sorted(found, key=lambda unit: unit.time)


def _units_of_run(run: str, snapshots: Sequence[Snapshot], allow_partial: bool) -> list[Unit]:
    verdicts = tuple(snapshot for snapshot in snapshots if VERDICT_TAG in snapshot.tags)
    named = {
        tag.removeprefix(MEMBER_PREFIX) for verdict in verdicts for tag in verdict.tags if tag.startswith(MEMBER_PREFIX)
    }
    others = [snapshot for snapshot in snapshots if VERDICT_TAG not in snapshot.tags]
    members = tuple(snapshot for snapshot in others if named & {snapshot.id, snapshot.original})
    found = []
    if verdicts:
        missing = named - {name for member in members for name in (member.id, member.original)}
        flaw = _partial(members, allow_partial)
        if missing:
            flaw = f"lacks {len(missing)} of the snapshots that its verdict names"
        found.append(Unit(members, verdicts, run, flaw))
    rest = tuple(snapshot for snapshot in others if snapshot not in members)
    if rest:
        found.append(Unit(rest, (), run, "has no verdict"))
    return found


def _partial(members: Iterable[Snapshot], allowed: bool) -> str:
    return "is partial" if not allowed and any(PARTIAL_TAG in member.tags for member in members) else ""


def _group_of_flawed(unit: Unit, own: GroupKey, sound: dict[GroupKey, list[Unit]]) -> GroupKey:
    """A run that was never completed may lack members: it belongs where a whole run has all that it has."""
    if own in sound or not unit.run:
        return own
    holding = [
        key
        for key in sound
        if (key.owner, key.host) == (own.owner, own.host)
        and set(own.paths) <= set(key.paths)
        and set(own.tags) <= set(key.tags)
    ]
    return max(holding, key=lambda key: max(whole.time for whole in sound[key]), default=own)


def _decide_group(key: GroupKey, sound: Sequence[Unit], flawed: Sequence[Unit], rules: Rules, now: Instant) -> Group:
    decisions = decide(sound, rules, now)
    newest = max((decision.item.time for decision in decisions if decision.kept), default=None)
    if sound and newest is None:
        raise KeepsNothing(f"the rules would remove everything of {key}, so nothing was removed")
    decisions += [Decision(unit, _why_kept(unit, newest, rules, now)) for unit in flawed]
    return Group(key, sorted(decisions, key=lambda decision: decision.item.time, reverse=True))


def _why_kept(unit: Unit, newest_whole: Instant | None, rules: Rules, now: Instant) -> list[str]:
    """Why a flawed unit stays: a person's tag, a run that may not be over, or nothing better to keep in its place."""
    reasons = [f"has tags [{', '.join(tags)}]" for tags in rules.tags if unit.has_tags(tags)]
    if now.timestamp - unit.newest.timestamp < UNDER_WAY_SECONDS:
        reasons.append(f"{unit.flaw}, and is younger than a day")
    elif unit.members and newest_whole is None:
        reasons.append(f"{unit.flaw}, and nothing whole is kept of its group")
    elif unit.members and newest_whole is not None and unit.time > newest_whole:
        reasons.append(f"{unit.flaw}, and nothing whole that is newer is kept")
    return reasons
