"""Index files into the kernel's index: listed, then fetched, unsealed and decoded in parallel (restic-format 1.7)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from lowtide_engine.errors import RepositoryDamaged
from lowtide_engine.repository.unpacked import LIMIT, UnpackedFiles
from lowtide_engine.storage import File, FileKind, Listed, Storage

if TYPE_CHECKING:
    from lowtide_engine._kernel import Index
    from lowtide_engine._kernel import Key as KernelKey

TICK_SECONDS = 1.0


def load_index(
    storage: Storage,
    files: UnpackedFiles,
    key: KernelKey,
    *,
    into: Index | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Index:
    """The union of all index files that are listed when this is called; `into` takes them where it is given. `tick` is
    called every second meanwhile.

    Only `storage.connections` files are in memory at a time. The first that can't be read ends it with
    RepositoryDamaged: with an index that lacks a part, a backup stores twice, and a prune deletes what is needed.
    """
    from lowtide_engine._kernel import Index

    index = Index() if into is None else into
    listed = sorted(storage.list(FileKind.INDEX), key=lambda entry: -entry.size)
    for entry in listed:
        if entry.size > LIMIT:
            raise RepositoryDamaged(f"index {entry.name[:8]} has {entry.size} bytes, no index is that long")
    with ThreadPoolExecutor(storage.connections, thread_name_prefix="index") as pool:
        pending: set[Future[None]] = set()
        entries: Iterator[Listed] = iter(listed)
        due = time.monotonic() + TICK_SECONDS
        try:
            while True:
                while len(pending) < 2 * storage.connections and (upcoming := next(entries, None)) is not None:
                    pending.add(pool.submit(_add, files, key, index, upcoming.name))
                if not pending:
                    return index
                done, pending = wait(pending, TICK_SECONDS, FIRST_COMPLETED)
                if time.monotonic() >= due:
                    due = time.monotonic() + TICK_SECONDS
                    tick()
                for future in done:
                    future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _add(files: UnpackedFiles, key: KernelKey, index: Index, name: str) -> None:
    from lowtide_engine._kernel import KernelError

    try:
        # Unsealed by the kernel, which lets other threads run meanwhile: index files are the large ones.
        index.add(name, files.load(FileKind.INDEX, name, unseal=key.unseal))
    except KernelError as error:
        raise RepositoryDamaged(f"{File(FileKind.INDEX, name)} can't be read: {error}") from None
