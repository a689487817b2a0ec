"""A snapshot's files into a folder. The kernel writes them (design: nothing escapes); here is decided what, and if."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lowtide_engine.errors import BadInput, EngineError
from lowtide_engine.reporting import NOT_BEGUN, Reporter
from lowtide_engine.repository.snapshot import SnapshotFilter
from lowtide_engine.standing import find_data, snapshots_for, standing
from lowtide_engine.transfer import Transfer, told_as_engine_error
from lowtide_engine.trees import PathMissing, find_node

if TYPE_CHECKING:
    from lowtide_engine._kernel import Node
    from lowtide_engine.repository import LockedRepository
    from lowtide_engine.repository.snapshot import Snapshot

Overwrite = Literal["always", "if-changed", "if-newer", "never"]

METADATA = frozenset({"metadata", "mode", "owner", "times", "xattr"})
"""What the kernel was doing when only what is said about a file failed, and its data is there."""


class NothingMatched(EngineError):
    """The patterns of a restore match no file of the snapshot."""

    reason = "NothingMatched"
    default_hint = "`lowtide ls` lists what there is; a pattern that starts with / is matched from the snapshot's root"


class DeletionRefused(EngineError):
    """A restore with --delete from a snapshot that may lack files."""

    reason = "DeletionRefused"
    default_hint = "choose another snapshot, leave --delete out, or say --allow-partial"


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """What is to be restored, and how. `snapshot` is an id, its beginning, or `latest`, each with `:folder` or without;
    the filter counts for `latest`. Patterns and the target are raw bytes.

    With `device`, the target is a block device that becomes what the one file holds that `snapshot` names, and `delete`
    makes zeros of what lies behind it."""

    snapshot: str
    target: bytes
    device: bool = False
    only: SnapshotFilter | None = None
    includes: Sequence[bytes] = ()
    excludes: Sequence[bytes] = ()
    iincludes: Sequence[bytes] = ()
    iexcludes: Sequence[bytes] = ()
    overwrite: Overwrite = "always"
    delete: bool = False
    allow_partial: bool = False
    sparse: bool = True
    owner: bool = True
    numeric_owner: bool = True
    root_metadata: bool = False
    verify: bool = False
    dry_run: bool = False
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What came of it; `errors` counts what could not be written or differs after it was, `shortfalls` those among them
    that concern owners, modes, times and attributes only: of these the data is there."""

    snapshot: Snapshot
    summary: Mapping[str, int]
    errors: int
    shortfalls: int


class _Listening:
    """A reporter that counts shortfalls on their way to the real one."""

    def __init__(self, inner: Reporter) -> None:
        self._inner = inner
        self.shortfalls = 0
        self.progress = inner.progress
        self.item_done = inner.item_done
        self.problem = inner.problem
        self.warn = inner.warn
        self.notice = inner.notice

    def item_error(self, path: bytes, during: str, message: str) -> None:
        self.shortfalls += during in METADATA
        self._inner.item_error(path, during, message)


def restore(
    locked: LockedRepository, request: RestoreRequest, reporter: Reporter, stop: threading.Event
) -> RestoreReport:
    """Restore. Raises SnapshotMissing, NothingMatched, DeletionRefused, NoDevice, DeviceRefused, DeviceTooSmall, or
    what the repository raises."""
    from lowtide_engine._kernel import Restore

    selects = bool(request.includes or request.iincludes)
    if request.delete and os.path.realpath(request.target) == b"/" and not selects:
        raise BadInput("--delete on / would remove what the snapshot does not hold", hint="say which with --include")
    snapshots = snapshots_for(locked, [request.snapshot], reporter.warn)
    snapshot, folder = find_data(snapshots, request.snapshot, request.only)
    worth = standing(snapshot, snapshots)
    if worth.flaw and request.delete and not request.allow_partial:
        raise DeletionRefused(f"snapshot {snapshot.short_id} {worth.flaw}: --delete could remove what it lacks")
    if worth.partial:
        reporter.warn(f"snapshot {snapshot.short_id} {worth.flaw}: they can't be restored from it")
    indexed = locked.load_index(lambda: reporter.progress(NOT_BEGUN))
    node = find_node(indexed, snapshot.tree, os.fsencode(folder))
    with told_as_engine_error(), _device(request, node, folder) as device:
        run = Restore(
            locked.repository.kernel_key,
            indexed.index,
            tree=snapshot.tree,
            target=request.target,
            subfolder=os.fsencode(folder),
            device=device,
            includes=request.includes,
            excludes=request.excludes,
            iincludes=request.iincludes,
            iexcludes=request.iexcludes,
            overwrite=request.overwrite,
            delete=request.delete,
            sparse=request.sparse,
            numeric_owner=request.numeric_owner,
            owner=request.owner,
            root_metadata=request.root_metadata,
            verify=request.verify,
            dry_run=request.dry_run,
            verbose=request.verbose,
        )
        listening = _Listening(reporter)
        finished = Transfer(run, indexed, listening, stop).drive()
    counts = finished.summary
    touched = counts["files_restored"] + counts["files_skipped"] + counts["dirs_restored"] + counts["errors"]
    if selects and not touched:
        patterns = ", ".join(os.fsdecode(pattern) for pattern in (*request.includes, *request.iincludes))
        raise NothingMatched(f"nothing in snapshot {snapshot.short_id} matches {patterns}; nothing was restored")
    return RestoreReport(snapshot, counts, counts["errors"], listening.shortfalls)


@contextmanager
def _device(request: RestoreRequest, node: Node | None, path: str) -> Iterator[int | None]:
    if not request.device:
        yield None
        return
    from lowtide_engine.device import opened_to_write

    if node is None or node.type != "file":
        raise PathMissing(
            f"{path} is no file of the snapshot, and only a file goes onto a device", hint="name it as ID:FILE"
        )
    with opened_to_write(os.fsdecode(request.target), node.size) as descriptor:
        yield descriptor
