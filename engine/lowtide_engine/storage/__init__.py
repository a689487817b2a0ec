"""Where a repository's files live. `open_storage` picks by location; `Storage` says what each of them promises."""

from lowtide_engine.storage.base import CONFIG, File, FileKind, Listed, Storage, is_id
from lowtide_engine.storage.clock import Clock, SystemClock
from lowtide_engine.storage.durable import save_durably, sync
from lowtide_engine.storage.options import StorageOptions, options_from_environment, parse_extended
from lowtide_engine.storage.pacing import Metered, pace_of
from lowtide_engine.storage.registry import connections_asked_for, find_location, open_storage

__all__ = [
    "CONFIG",
    "Clock",
    "File",
    "FileKind",
    "Listed",
    "Metered",
    "Storage",
    "StorageOptions",
    "SystemClock",
    "connections_asked_for",
    "find_location",
    "is_id",
    "open_storage",
    "options_from_environment",
    "pace_of",
    "parse_extended",
    "save_durably",
    "sync",
]
