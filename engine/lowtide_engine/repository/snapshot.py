"""Snapshots: one small document each, that names a root tree (restic-format 1.8), and how they are found, grouped
and chosen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lowtide_engine.errors import BadInput, RepositoryDamaged, SnapshotMissing
from lowtide_engine.repository.go_text import Instant, go_json

_HEX_64 = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-fA-F]{1,64}")
_LATEST = re.compile(r"latest(?:~([0-9]{1,9}))?")

COUNTS = (
    "files_new",
    "files_changed",
    "files_unmodified",
    "dirs_new",
    "dirs_changed",
    "dirs_unmodified",
    "data_blobs",
    "tree_blobs",
    "data_added",
    "data_added_packed",
    "total_files_processed",
    "total_bytes_processed",
)
"""The numbers of a summary, in restic's order; all of them are always written."""

GROUP_KEYS = ("host", "paths", "tags")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot. `id` is its file's name, "" before it is stored. `paths` and tags are text; paths that aren't
    UTF-8 use surrogateescape. `extra` are keys that we don't know (rustic's), kept when it is written again.
    """

    time: Instant
    tree: str
    paths: tuple[str, ...]
    hostname: str = ""
    username: str = ""
    uid: int = 0
    gid: int = 0
    excludes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    parent: str = ""
    original: str = ""
    program_version: str = ""
    summary: Mapping[str, object] | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    id: str = ""

    @classmethod
    def decode(cls, name: str, plaintext: bytes) -> Snapshot:
        """Read a snapshot file's plaintext; RepositoryDamaged where it isn't one."""
        try:
            document = json.loads(plaintext)
            rest = {key: value for key, value in document.items() if key not in _KEYS}
            tree = document["tree"]
            if not isinstance(tree, str) or not _HEX_64.fullmatch(tree):
                raise TypeError
            summary = document.get("summary")
            if summary is not None and not isinstance(summary, dict):
                raise TypeError
            return cls(
                time=Instant.parse(document["time"]),
                tree=tree,
                paths=_texts(document, "paths"),
                hostname=_text(document, "hostname"),
                username=_text(document, "username"),
                uid=_number(document, "uid"),
                gid=_number(document, "gid"),
                excludes=_texts(document, "excludes"),
                tags=_texts(document, "tags"),
                parent=_text(document, "parent"),
                original=_text(document, "original"),
                program_version=_text(document, "program_version"),
                summary=summary,
                extra=rest,
                id=name,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RepositoryDamaged(f"snapshot {name[:8]} is not a snapshot file") from None

    def encode(self) -> bytes:
        """The plaintext: restic's keys in its order, left out where it leaves them out, then those we don't know."""
        document: dict[str, object] = {"time": str(self.time)}
        if self.parent:
            document["parent"] = self.parent
        document |= {"tree": self.tree, "paths": list(self.paths)}
        optional: dict[str, object] = {
            "hostname": self.hostname,
            "username": self.username,
            "uid": self.uid,
            "gid": self.gid,
            "excludes": list(self.excludes),
            "tags": list(self.tags),
            "original": self.original,
            "program_version": self.program_version,
        }
        document |= {key: value for key, value in optional.items() if value}
        if self.summary is not None:
            document["summary"] = dict(self.summary)
        return go_json(document | dict(self.extra))

    def retagged(self, tags: Sequence[str]) -> Snapshot:
        """With other tags, to be stored anew; `original` is set once and then kept, as restic's `tag` does."""
        return replace(self, tags=tuple(tags), original=self.original or self.id, id="")

    def has_tags(self, tags: Iterable[str]) -> bool:
        """Whether it has every one of the tags; the empty text stands for "has none", as in restic."""
        return all((tag in self.tags) if tag else not self.tags for tag in tags)

    @property
    def short_id(self) -> str:
        """The first eight digits, as shown to people."""
        return self.id[:8]


_KEYS = frozenset(
    {"time", "parent", "tree", "paths", "hostname", "username", "uid", "gid", "excludes", "tags", "original"}
    | {"program_version", "summary"}
)


def summary(start: Instant, end: Instant, counts: Mapping[str, int]) -> dict[str, object]:
    """A snapshot's summary from a run's counts; what is missing there is 0."""
    return {"backup_start": str(start), "backup_end": str(end), **{name: counts.get(name, 0) for name in COUNTS}}


@dataclass(frozen=True, slots=True)
class SnapshotFilter:
    """Which snapshots are meant: of any of the hosts, with all of the paths, with all tags of any of the tag lists.
    Empty means any.
    """

    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    tags: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, hosts: Iterable[str] = (), paths: Iterable[str] = (), tags: Iterable[str] = ()) -> SnapshotFilter:
        """From the command line: each of `tags` is a comma-separated list."""
        return cls(tuple(hosts), tuple(paths), tuple(split_tags(text) for text in tags))

    def matches(self, snapshot: Snapshot) -> bool:
        """Whether the snapshot is one of those meant."""
        return (
            (not self.hosts or snapshot.hostname in self.hosts)
            and all(path in snapshot.paths for path in self.paths)
            and (not self.tags or any(snapshot.has_tags(tags) for tags in self.tags))
        )

    def __str__(self) -> str:
        parts = [f"host {' or '.join(self.hosts)}"] if self.hosts else []
        parts += [f"path {path}" for path in self.paths]
        parts += [f"tags {' or '.join(','.join(tags) for tags in self.tags)}"] if self.tags else []
        return ", ".join(parts) or "no filter"


def split_tags(text: str) -> tuple[str, ...]:
    """The tags of a comma-separated list, stripped; "" gives the one empty tag."""
    return tuple(part.strip() for part in text.split(","))


def find(snapshots: Sequence[Snapshot], wanted: str, only: SnapshotFilter | None = None) -> tuple[Snapshot, str]:
    """The snapshot that `wanted` names, and the folder in it: `latest`, `latest~2`, an id's beginning, each with
    `:folder` or without.

    The filter counts for `latest` only. The newest is the one with the greatest time. Raises SnapshotMissing where none
    or several match.
    """
    name, colon, folder = wanted.partition(":")
    folder = folder or "/" if colon else "/"
    latest = _LATEST.fullmatch(name)
    if latest:
        chosen = only or SnapshotFilter()
        matching = sorted((s for s in snapshots if chosen.matches(s)), key=lambda s: s.time, reverse=True)
        steps = int(latest[1] or 0)
        if steps >= len(matching):
            raise SnapshotMissing(f"{name}: {len(matching)} snapshots match ({chosen})")
        return matching[steps], folder
    if not _PREFIX.fullmatch(name):
        raise BadInput(f"{name!r} is neither `latest` nor the beginning of a snapshot's id")
    found = [snapshot for snapshot in snapshots if snapshot.id.startswith(name.lower())]
    if len(found) != 1:
        raise SnapshotMissing(f"{f'{len(found)} snapshots begin' if found else 'no snapshot begins'} with {name}")
    return found[0], folder


def group(
    snapshots: Iterable[Snapshot], by: Sequence[str] = ("host", "paths")
) -> dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[Snapshot]]:
    """Snapshots by (host, sorted paths, sorted tags); what isn't grouped by is empty. Groups and members keep the
    given order.
    """
    unknown = set(by) - set(GROUP_KEYS)
    if unknown:
        raise BadInput(f"snapshots are grouped by {', '.join(GROUP_KEYS)}, not by {', '.join(sorted(unknown))}")
    groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[Snapshot]] = {}
    for snapshot in snapshots:
        key = (
            snapshot.hostname if "host" in by else "",
            tuple(sorted(snapshot.paths)) if "paths" in by else (),
            tuple(sorted(snapshot.tags)) if "tags" in by else (),
        )
        groups.setdefault(key, []).append(snapshot)
    return groups


def choose_parent(
    snapshots: Iterable[Snapshot],
    *,
    time: Instant,
    host: str,
    paths: Sequence[str],
    tags: Sequence[str] = (),
    by: Sequence[str] = ("host", "paths"),
    must_have: Sequence[str] = (),
) -> Snapshot | None:
    """The newest snapshot of the same group that is not newer than `time`: whose files need not be read again. None
    where there is none.

    `must_have` are tags that it needs in any case (the reserved ones that say whose it is).
    """
    chosen = SnapshotFilter(
        hosts=(host,) if "host" in by else (),
        paths=tuple(paths) if "paths" in by else (),
        tags=(tuple(tags),) if "tags" in by and tags else (),
    )
    candidates = [s for s in snapshots if s.time <= time and chosen.matches(s) and s.has_tags(must_have)]
    return max(candidates, key=lambda s: s.time, default=None)


def _text(document: Mapping[str, object], key: str) -> str:
    value = document.get(key) or ""
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(document: Mapping[str, object], key: str) -> int:
    value = document.get(key) or 0
    if type(value) is not int:
        raise TypeError
    return value


def _texts(document: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = document.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError
    return tuple(value)
