"""What a snapshot is worth: whole or partial, and whether its run was completed (design: nothing is lost).

A run over several volumes is good only once a verdict names its members: a snapshot like any other, tagged
`lowtide:verdict`, `lowtide:run=<run>`, and `lowtide:member=<id>` once for each member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lowtide_engine.repository.snapshot import find

if TYPE_CHECKING:
    from lowtide_engine.errors import EngineError
    from lowtide_engine.repository import LockedRepository
    from lowtide_engine.repository.snapshot import Snapshot, SnapshotFilter

TAG_PREFIX = "lowtide:"
PARTIAL_TAG = "lowtide:partial"
VERDICT_TAG = "lowtide:verdict"
RUN_PREFIX = "lowtide:run="
MEMBER_PREFIX = "lowtide:member="


@dataclass(frozen=True, slots=True)
class Standing:
    """`run` is "" for a snapshot that no run of Lowtide wrote: such are whole as far as anyone can say."""

    partial: bool
    run: str
    approved: bool

    @property
    def flaw(self) -> str:
        """Why it must not be trusted to be complete, as a sentence's predicate; "" where it may be."""
        if self.partial:
            return "is partial, some files could not be read"
        if self.run and not self.approved:
            return f"belongs to run {self.run}, which was never completed"
        return ""


def standing(snapshot: Snapshot, others: Iterable[Snapshot]) -> Standing:
    """The standing of `snapshot` among all snapshots of its repository. One that was tagged anew keeps its standing."""
    run = value_of(snapshot, RUN_PREFIX)
    names = {MEMBER_PREFIX + name for name in (snapshot.id, snapshot.original) if name}
    approved = VERDICT_TAG in snapshot.tags or any(
        other.has_tags((VERDICT_TAG, RUN_PREFIX + run)) and not names.isdisjoint(other.tags) for other in others
    )
    return Standing(PARTIAL_TAG in snapshot.tags, run, approved)


def find_data(snapshots: Sequence[Snapshot], wanted: str, only: SnapshotFilter | None) -> tuple[Snapshot, str]:
    """As `snapshot.find`, but `latest` never means a verdict: that is the newest of each run, and holds no data.

    A filter by a verdict's own tag means it all the same.
    """
    asked_for = only is not None and any(VERDICT_TAG in tags for tags in only.tags)
    if wanted.startswith("latest") and not asked_for:
        snapshots = [snapshot for snapshot in snapshots if VERDICT_TAG not in snapshot.tags]
    return find(snapshots, wanted, only)


def snapshots_for(locked: LockedRepository, wanted: Iterable[str], tell: Callable[[str], None]) -> list[Snapshot]:
    """All snapshots that can be read, oldest first, for a command that only reads; others are told.

    Raises what ails one that `wanted` may mean: `latest` may be any, an id or its beginning what it begins. `wanted` as
    `find` takes it.
    """
    names = [name.partition(":")[0].lower() for name in wanted]

    def damaged(name: str, error: EngineError) -> None:
        if any(asked.startswith("latest") or name.startswith(asked) for asked in names):
            raise error
        tell(f"passed over snapshot {name[:8]}, which can't be read: {error.message}")

    return locked.snapshots(on_damaged=damaged)


def value_of(snapshot: Snapshot, prefix: str) -> str:
    """What follows `prefix` in the first tag that starts so, or ""."""
    return next((tag.removeprefix(prefix) for tag in snapshot.tags if tag.startswith(prefix)), "")


def owner_tags(owner: Mapping[str, str]) -> tuple[str, ...]:
    """The reserved tags for `owner`, such as lowtide:claim=data; what is empty is left out."""
    return tuple(f"{TAG_PREFIX}{name}={value}" for name, value in owner.items() if value)


def program_version() -> str:
    """What snapshots say they were written by."""
    from importlib.metadata import version

    return f"lowtide {version('lowtide')}"
