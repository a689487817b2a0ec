"""The verdict over a run: a small snapshot that names its members, written once all of them are stored.

It is a snapshot like any other: its tags say which run it is about and which snapshots belong to it, and its only file,
verdict.json, says the same for people. restic lists and restores it. Without it, a run's snapshots are not counted as a
backup (design: nothing is lost).
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lowtide_engine._kernel import encode_tree, open_blob, sha256, zstd_compress
from lowtide_engine.errors import EngineError
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
    value_of,
)

if TYPE_CHECKING:
    from lowtide_engine._kernel import BlobKind
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
) -> tuple[Snapshot, bool]:
    """Write the verdict that `members` (whole ids) are the run's snapshots, all stored: gives it, and if it is new.

    One that exists for the run with the same members is given instead. Raises MemberRefused where a member is missing,
    partial (unless allowed) or of another run.
    """
    snapshots = locked.snapshots()
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
    packs = [_store_pack(indexed, "data", content), _store_pack(indexed, "tree", tree)]
    indexed.save_index(go_json({"packs": [entry for entry, _ in packs]}) + b"\n")
    counts = {
        "files_new": 1,
        "data_blobs": 1,
        "tree_blobs": 1,
        "data_added": len(content) + len(tree),
        "data_added_packed": sum(size for _, size in packs),
        "total_files_processed": 1,
        "total_bytes_processed": len(content),
    }
    return sha256(tree), counts


def _store_pack(indexed: IndexedRepository, kind: BlobKind, plaintext: bytes) -> tuple[dict[str, object], int]:
    """Store one blob as a pack of its own (restic-format 1.5); gives the pack's entry for the index, and its size."""
    key = indexed.repository.kernel_key
    compressed = indexed.repository.config.version >= 2
    blob = sha256(plaintext)
    sealed = key.seal(zstd_compress(plaintext) if compressed else plaintext)
    if open_blob(key, sealed, blob, len(plaintext) if compressed else 0) != plaintext:
        raise EngineError("a blob that was just sealed reads differently: memory or processor are faulty")
    number = {"data": 0, "tree": 1}[kind] + (2 if compressed else 0)
    lengths = struct.pack("<II", len(sealed), len(plaintext)) if compressed else struct.pack("<I", len(sealed))
    header = key.seal(bytes([number]) + lengths + bytes.fromhex(blob))
    pack = sealed + header + struct.pack("<I", len(header))
    name = hashlib.sha256(pack).hexdigest()
    indexed.save_pack(name, pack, kind)
    entry: dict[str, object] = {"id": blob, "type": kind, "offset": 0, "length": len(sealed)}
    if compressed:
        entry["uncompressed_length"] = len(plaintext)
    return {"id": name, "blobs": [entry]}, len(pack)
