"""The verdict over a run: a small snapshot that names its members, written once all of them are stored.

It is a snapshot like any other: its tags say which run it is about and which snapshots belong to it, and its only file,
verdict.json, says the same for people. restic lists and restores it. Without it, a run's snapshots are not counted as a
backup (design: nothing is lost).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lowtide_engine._kernel import encode_tree, sha256
from lowtide_engine.errors import EngineError
from lowtide_engine.packing import IndexWriter, PackWriter
from lowtide_engine.repository import IndexedRepository, Instant, Snapshot, summary
from lowtide_engine.repository.go_text import go_json
from lowtide_engine.repository.keys import own_username
from lowtide_engine.standing import (
    MEMBER_PREFIX,
    PARTIAL_TAG,
    RUN_PREFIX,
    VERDICT_TAG,
    owner_tags,
    program_version,
    snapshots_for,
    value_of,
)

if TYPE_CHECKING:
    from lowtide_engine.repository import LockedRepository

FILE_NAME = "verdict.json"


class MemberRefused(EngineError):
    """A snapshot that can't be a member: it is gone, partial, or belongs to another run."""

    reason = "MemberRefused"
    default_hint = "the run is not good; run it again"


def give_verdict(
    locked: LockedRepository,
    members: Sequence[str],
    *,
    host: str,
    owner: Mapping[str, str],
    tags: Sequence[str] = (),
    allow_partial: bool = False,
    tell: Callable[[str], None],
) -> tuple[Snapshot, bool]:
    """Write the verdict that `members` (whole ids) are the run's snapshots, all stored: gives it, and if it is new.

    One that exists for the run with the same members is given instead. Raises MemberRefused where a member is missing,
    partial (unless allowed) or of another run, and what ails one that can't be read; of other snapshots that is told.
    """
    snapshots = snapshots_for(locked, members, tell)
    by_id = {snapshot.id: snapshot for snapshot in snapshots}
    for member in members:
        _refuse_unfit(member, by_id.get(member), owner.get("run", ""), allow_partial=allow_partial)
    member_tags = [MEMBER_PREFIX + member for member in sorted(set(members))]
    for known in snapshots:
        if known.has_tags((VERDICT_TAG, RUN_PREFIX + owner.get("run", ""))) and set(member_tags) == {
            tag for tag in known.tags if tag.startswith(MEMBER_PREFIX)
        }:
            return known, False
    moment = Instant.at(time.time())
    text = _text(moment, owner, [by_id[member] for member in sorted(set(members))])
    indexed = locked.load_index()
    tree, counts = _store_file(indexed, text, moment)
    snapshot = Snapshot(
        time=moment,
        tree=tree,
        paths=(f"/{FILE_NAME}",),
        hostname=host,
        username=own_username(),
        uid=os.getuid(),
        gid=os.getgid(),
        tags=(*tags, *owner_tags(owner), VERDICT_TAG, *member_tags),
        program_version=program_version(),
        summary=summary(moment, Instant.at(time.time()), counts),
    )
    return indexed.save_snapshot(snapshot), True


def _refuse_unfit(member: str, snapshot: Snapshot | None, run: str, *, allow_partial: bool) -> None:
    if snapshot is None:
        raise MemberRefused(f"snapshot {member[:8]} is not in the repository, so the run is not complete")
    if value_of(snapshot, RUN_PREFIX) != run:
        raise MemberRefused(f"snapshot {member[:8]} does not belong to run {run}")
    if PARTIAL_TAG in snapshot.tags and not allow_partial:
        raise MemberRefused(f"snapshot {member[:8]} is partial, some files could not be read", hint="")


def _text(moment: Instant, owner: Mapping[str, str], members: Sequence[Snapshot]) -> bytes:
    document = {
        "run": owner.get("run", ""),
        "policy": owner.get("policy", ""),
        "namespace": owner.get("namespace", ""),
        "time": str(moment),
        "members": [{"id": m.id, "time": str(m.time), "paths": list(m.paths), "tags": list(m.tags)} for m in members],
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _store_file(indexed: IndexedRepository, content: bytes, moment: Instant) -> tuple[str, dict[str, int]]:
    """Store a tree with the one file: packs, then their index. Gives the tree's id, and a summary's counts."""
    blob = sha256(content)
    node = {
        "name": FILE_NAME,
        "type": "file",
        "mode": 0o444,
        "mtime": str(moment),
        "atime": str(moment),
        "ctime": str(moment),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "size": len(content),
        "links": 1,
        "content": [blob],
    }
    tree = encode_tree([(FILE_NAME.encode(), go_json(node))])
    indexes = IndexWriter(indexed)
    packs = PackWriter(indexed, indexes)
    packs.store("data", content)
    root = packs.store("tree", tree)
    packs.finish()
    indexes.flush()
    counts = {
        "files_new": 1,
        "data_blobs": 1,
        "tree_blobs": 1,
        "data_added": packs.added,
        "data_added_packed": packs.written,
        "total_files_processed": 1,
        "total_bytes_processed": len(content),
    }
    return root, counts
