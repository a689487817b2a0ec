"""Files and folders into a new snapshot (design: nothing is lost).

Order: lock, list snapshots, list and load the index; packs, index, snapshot; then the lock once more, and where it was
lost the snapshot is deleted again, since a prune may have taken what it names.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from lowtide_engine.errors import EngineError
from lowtide_engine.reporting import NOT_BEGUN, Reporter, shown
from lowtide_engine.repository.go_text import Instant
from lowtide_engine.repository.keys import own_username
from lowtide_engine.repository.snapshot import Snapshot, choose_parent, find, summary
from lowtide_engine.standing import PARTIAL_TAG, owner_tags, program_version, snapshots_for
from lowtide_engine.stream import OpenStream, StreamEmpty, StreamSource
from lowtide_engine.transfer import UPLOADS, Transfer, told_as_engine_error

if TYPE_CHECKING:
    from lowtide_engine.repository import LockedRepository

Compression = Literal["auto", "off", "fastest", "better", "max"]


class SourceMissing(EngineError):
    """None of the files and folders to back up exists."""

    reason = "SourceMissing"
    default_hint = "check the paths; relative ones start at the current folder"


class SourceEmpty(EngineError):
    """There is no file in what was to be backed up, and an empty backup was forbidden."""

    reason = "SourceEmpty"
    default_hint = "if it is meant to be empty, back it up without --refuse-empty"


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """What is to be backed up, and how. Targets and patterns are raw bytes; sizes in bytes.

    `owner` are the reserved tags that say whose the snapshot is; a parent must have them too, but for the run. `parent`
    is an id or its beginning, `group_by` says among which snapshots a parent is looked for otherwise. `stream` becomes
    one file of the snapshot, whose path is the one target; nothing on the disk is read then. `uploads` packs are stored
    at a time, each of which takes `pack_size` of memory.
    """

    targets: Sequence[bytes]
    host: str
    stream: StreamSource | None = None
    time: datetime | None = None
    tags: Sequence[str] = ()
    owner: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""
    group_by: Sequence[str] = ("host", "paths")
    force: bool = False
    excludes: Sequence[bytes] = ()
    iexcludes: Sequence[bytes] = ()
    exclude_if_present: Sequence[tuple[bytes, bytes]] = ()
    exclude_caches: bool = False
    exclude_larger_than: int = 0
    one_file_system: bool = False
    ignore_inode: bool = False
    ignore_ctime: bool = False
    with_atime: bool = False
    omit_names: bool = False
    compression: Compression = "auto"
    pack_size: int = 16 * 1024 * 1024
    readers: int = 2
    uploads: int = UPLOADS
    verify: bool = True
    dry_run: bool = False
    verbose: bool = False
    skip_if_unchanged: bool = False
    refuse_empty: bool = False


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What came of it. `snapshot` is None where none was written: a dry run, or nothing changed. `errors` counts what
    could not be read: then the snapshot is partial, and tagged so. What equals a partial parent is not `unchanged`: it
    is whole."""

    snapshot: Snapshot | None
    parent: Snapshot | None
    summary: Mapping[str, object]
    errors: int
    unchanged: bool = False


def back_up(
    locked: LockedRepository, request: BackupRequest, reporter: Reporter, stop: threading.Event
) -> BackupReport:
    """Back up under a shared lock that was taken before. Raises SourceMissing, SourceEmpty, StreamFailed, StreamEmpty,
    Interrupted, or what the repository raises; no snapshot is written then."""
    from lowtide_engine._kernel import Backup

    start = Instant.at(time.time()) if request.time is None else Instant.of(request.time)
    targets = _existing(request.targets, reporter) if request.stream is None else request.targets
    missing = len(request.targets) - len(targets)
    # A parent only saves reading: one snapshot that can't be read must not keep what is there now from being stored.
    snapshots = snapshots_for(locked, [request.parent] if request.parent else (), reporter.warn)
    parent = _parent(snapshots, request, start)
    if parent is not None:
        reporter.notice(f"using parent snapshot {parent.short_id}")
    indexed = locked.load_index(lambda: reporter.progress(NOT_BEGUN))
    config = locked.repository.config
    with told_as_engine_error(), _opened(request, stop) as stream:
        run = Backup(
            locked.repository.kernel_key,
            indexed.index,
            polynomial=config.chunker_polynomial,
            version=config.version,
            targets=targets if stream is None else (),
            stream=None if stream is None else (targets[0], stream.descriptor, (start.seconds, start.nanoseconds)),
            parent=parent.tree if parent is not None else None,
            excludes=request.excludes,
            iexcludes=request.iexcludes,
            exclude_if_present=request.exclude_if_present,
            exclude_caches=request.exclude_caches,
            exclude_larger_than=request.exclude_larger_than,
            one_file_system=request.one_file_system,
            force=request.force,
            ignore_inode=request.ignore_inode,
            ignore_ctime=request.ignore_ctime,
            with_atime=request.with_atime,
            omit_names=request.omit_names,
            compression=request.compression,
            pack_size=request.pack_size,
            verify=request.verify and config.extra_verify,
            dry_run=request.dry_run,
            verbose=request.verbose,
            readers=request.readers,
            uploads=request.uploads,
        )
        finished = Transfer(run, indexed, reporter, stop, uploads=request.uploads).drive()
        if stream is not None:
            stream.conclude()
            if not finished.summary["total_bytes_processed"]:
                raise StreamEmpty("the stream ended without a single byte")
    errors = finished.summary["errors"] + missing
    if request.refuse_empty and not finished.summary["total_files_processed"]:
        where = ", ".join(shown(target) for target in request.targets)
        which = "file that could be read" if errors else "file"
        raise SourceEmpty(f"there is no {which} in {where}; no snapshot was written")
    end = start if request.time is not None else Instant.at(time.time())
    counts = summary(start, end, finished.summary)
    unchanged = parent is not None and finished.root == parent.tree and PARTIAL_TAG not in parent.tags
    if request.dry_run or (request.skip_if_unchanged and unchanged and not errors):
        return BackupReport(None, parent, counts, errors, unchanged)
    snapshot = Snapshot(
        time=start,
        parent=parent.id if parent is not None else "",
        tree=finished.root,
        paths=tuple(os.fsdecode(os.path.abspath(target)) for target in request.targets),
        hostname=request.host,
        username=own_username(),
        uid=os.getuid(),
        gid=os.getgid(),
        excludes=tuple(os.fsdecode(pattern) for pattern in (*request.excludes, *request.iexcludes)),
        tags=(*request.tags, *owner_tags(request.owner), *((PARTIAL_TAG,) if errors else ())),
        program_version=program_version(),
        summary=counts,
    )
    return BackupReport(indexed.save_snapshot(snapshot), parent, counts, errors, unchanged)


@contextmanager
def _opened(request: BackupRequest, stop: threading.Event) -> Iterator[OpenStream | None]:
    if request.stream is None:
        yield None
        return
    with request.stream.opened(stop) as stream:
        yield stream


def _existing(targets: Sequence[bytes], reporter: Reporter) -> list[bytes]:
    existing = []
    for target in targets:
        if os.path.lexists(target):
            existing.append(target)
        else:
            reporter.item_error(target, "lstat", "does not exist, skipped")
    if not existing:
        raise SourceMissing("none of the files and folders to back up exists; no snapshot was written")
    return existing


def _parent(snapshots: Sequence[Snapshot], request: BackupRequest, start: Instant) -> Snapshot | None:
    if request.force:
        return None
    if request.parent:
        return find(snapshots, request.parent)[0]
    mine = {name: value for name, value in request.owner.items() if name != "run"}
    return choose_parent(
        snapshots,
        time=start,
        host=request.host,
        paths=[os.fsdecode(os.path.abspath(target)) for target in request.targets],
        tags=request.tags,
        by=request.group_by,
        must_have=owner_tags(mine),
    )
