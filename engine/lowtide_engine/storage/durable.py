"""Files that are on the disk, whole, before anybody goes on: for a repository in a folder, and for what leaves one."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lowtide_engine.storage.pacing import UNLIMITED, Pace

if TYPE_CHECKING:
    from typing_extensions import Buffer

_NOT_POSSIBLE_HERE = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
"""What file systems answer that know no fsync of folders, or no modes (network shares)."""


def save_durably(target: Path, data: Buffer, *, mode: int = 0o600, pace: Pace = UNLIMITED) -> None:
    """Have `data` at `target`, in place of what is there, or raise OSError and leave that as it is.

    A temporary file beside it, under a name that no listing of a repository shows; fsync, rename, fsync of the folder.
    """
    descriptor, name = tempfile.mkstemp(prefix=f"{target.name}-tmp-", dir=target.parent)
    try:
        with open(descriptor, "wb", buffering=0) as stream:
            _write_all(stream.fileno(), data, pace)
            _sync_file(stream.fileno())
            set_mode(stream.fileno(), mode)
        os.rename(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    sync(target.parent)


def sync(path: Path) -> None:
    """Make what is in a file, or the names in a folder, durable, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_POSSIBLE_HERE:
            raise
    finally:
        os.close(descriptor)


def set_mode(path: Path | int, mode: int) -> None:
    """Change a mode, but where modes belong to a network share: restic passes over this too."""
    try:
        os.chmod(path, mode)
    except OSError as error:
        if error.errno not in (errno.EPERM, *_NOT_POSSIBLE_HERE):
            raise


def _write_all(descriptor: int, data: Buffer, pace: Pace) -> None:
    view = memoryview(data).cast("B")
    while view:
        piece = view[: pace.piece]
        pace.take(len(piece))
        view = view[os.write(descriptor, piece) :]


def _sync_file(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOSYS):
            raise
