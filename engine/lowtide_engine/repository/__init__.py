"""What makes files a repository: keys, config, locks, snapshots, index. `open_repository` and `init_repository` are
the ways in.
"""

from lowtide_engine.repository.cache import cache_root
from lowtide_engine.repository.config import Config
from lowtide_engine.repository.go_text import Instant
from lowtide_engine.repository.holder import Holder, LockFile
from lowtide_engine.repository.keys import DEFAULT_KDF, KdfParameters, KeyInfo
from lowtide_engine.repository.lock import Lock, Locks
from lowtide_engine.repository.opening import init_repository, open_repository
from lowtide_engine.repository.password import Password, find_password
from lowtide_engine.repository.repository import IndexedRepository, LockedRepository, Repository
from lowtide_engine.repository.snapshot import (
    Snapshot,
    SnapshotFilter,
    choose_parent,
    find,
    group,
    split_tags,
    summary,
)

__all__ = [
    "DEFAULT_KDF",
    "Config",
    "Holder",
    "IndexedRepository",
    "Instant",
    "KdfParameters",
    "KeyInfo",
    "Lock",
    "LockFile",
    "LockedRepository",
    "Locks",
    "Password",
    "Repository",
    "Snapshot",
    "SnapshotFilter",
    "cache_root",
    "choose_parent",
    "find",
    "find_password",
    "group",
    "init_repository",
    "open_repository",
    "split_tags",
    "summary",
]
