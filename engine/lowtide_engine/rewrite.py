"""Snapshots without some files, or said to be of another host or time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from lowtide_engine._kernel import KernelError, Patterns
from lowtide_engine.editing import Edited, rewrite_each
from lowtide_engine.errors import BadInput
from lowtide_engine.packing import PACK_SIZE
from lowtide_engine.repository.go_text import Instant
from lowtide_engine.repository.snapshot import COUNTS
from lowtide_engine.tree_editing import RawNode, Rules, edit_tree

if TYPE_CHECKING:
    from lowtide_engine.repository import LockedRepository, Snapshot

MARK = "rewrite"
_NO_TIME = "0001-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class RewriteRequest:
    """What is to be changed. Patterns are raw bytes; excludes and includes exclude each other. `summary`: count the
    files anew even where no pattern is given. `forget` deletes the old snapshots, and needs an exclusive lock."""

    excludes: Sequence[bytes] = ()
    iexcludes: Sequence[bytes] = ()
    includes: Sequence[bytes] = ()
    iincludes: Sequence[bytes] = ()
    host: str = ""
    time: datetime | None = None
    summary: bool = False
    forget: bool = False
    dry_run: bool = False
    pack_size: int = PACK_SIZE


def rewrite(
    locked: LockedRepository,
    chosen: Sequence[Snapshot],
    snapshots: Sequence[Snapshot],
    request: RewriteRequest,
    stop: threading.Event,
) -> Iterator[tuple[Snapshot, Snapshot]]:
    """Rewrite the `chosen` of the repository's `snapshots`; gives (old, new) of each that changes.

    One of which includes would leave nothing stays as it is. Raises BadInput for a bad pattern, RepositoryDamaged,
    TreeForeign.
    """
    indexed = locked.load_index()
    selection = _selection(request)

    def edit(old: Snapshot, store: Callable[[bytes], str]) -> Edited:
        new = old
        if selection is not None:
            counted = _Counted(selection)
            rules = Rules(counted.node, keep_empty=selection.keep_empty)
            tree = edit_tree(indexed, old.tree, rules, store)
            if tree is None:
                return Edited(old)
            new = replace(new, tree=tree, summary=counted.summary(old))
        if request.host:
            new = replace(new, hostname=request.host)
        if request.time is not None:
            new = replace(new, time=Instant.of(request.time))
        return Edited(new)

    for old, new in rewrite_each(
        indexed,
        snapshots,
        chosen,
        edit,
        stop,
        mark=MARK,
        forget=request.forget,
        dry_run=request.dry_run,
        pack_size=request.pack_size,
    ):
        if new is not None:
            yield old, new


class _Selection:
    """What stays: whatever no exclude matches, or with includes only what one matches."""

    def __init__(self, excludes: Sequence[Patterns], includes: Sequence[Patterns]) -> None:
        self._excludes = excludes
        self._includes = includes

    def keeps(self, path: bytes, *, folder: bool) -> bool:
        if not self._includes:
            return not any(patterns.matches(path) for patterns in self._excludes)
        return any(match or (folder and below) for match, below in (one.verdict(path) for one in self._includes))

    def keep_empty(self, path: bytes) -> bool:
        return not self._includes or any(one.verdict(path)[0] for one in self._includes)


def _selection(request: RewriteRequest) -> _Selection | None:
    lists = ((request.excludes, False), (request.iexcludes, True), (request.includes, False), (request.iincludes, True))
    if not request.summary and not any(patterns for patterns, _ in lists):
        return None
    try:
        made = [[Patterns(patterns, ignore_case=any_case)] if patterns else [] for patterns, any_case in lists]
    except KernelError as error:
        raise BadInput(str(error)) from error
    return _Selection([*made[0], *made[1]], [*made[2], *made[3]])


class _Counted:
    """A selection that counts the files that stay."""

    def __init__(self, selection: _Selection) -> None:
        self._selection = selection
        self._files = 0
        self._bytes = 0

    def node(self, path: bytes, raw: RawNode) -> str | None:
        if not self._selection.keeps(path, folder=raw.node.type == "dir"):
            return None
        if raw.node.type == "file":
            self._files += 1
            self._bytes += raw.node.size
        return raw.text

    def summary(self, old: Snapshot) -> dict[str, object]:
        """The snapshot's summary with the new totals; one that had none gets zeros in all else, as restic has it."""
        none = {"backup_start": _NO_TIME, "backup_end": _NO_TIME, **dict.fromkeys(COUNTS, 0)}
        known = none if old.summary is None else dict(old.summary)
        return {**known, "total_files_processed": self._files, "total_bytes_processed": self._bytes}
