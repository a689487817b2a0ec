"""A block device, as one file of a snapshot: read from its first byte to its last, or written over.

Devices are opened here and nowhere else: what is no block device is refused, and one that the system itself uses (a
mounted file system, a part of a volume group) is never written to.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lowtide_engine.errors import BadInput, EngineError
from lowtide_engine.stream import StreamFailed


class NoDevice(BadInput):
    """A path that was to be a block device leads to something else, or to nothing."""

    reason = "NoDevice"
    default_hint = "name a block device; files and folders are backed up and restored without these options"


class DeviceRefused(EngineError):
    """A device can't be opened, or is in use."""

    reason = "DeviceRefused"
    default_hint = "check who owns it, and that nothing uses it"


class DeviceTooSmall(EngineError):
    """A device can't hold what is to be restored onto it."""

    reason = "DeviceTooSmall"
    default_hint = "nothing was written; take a device of at least that size"


@dataclass(frozen=True, slots=True)
class Device:
    """A source of a backup (stream.StreamSource): all that is on the device at `path`."""

    path: str

    @contextmanager
    def opened(self, stop: threading.Event) -> Iterator[OpenDevice]:
        """Open it for reading. Raises NoDevice, DeviceRefused."""
        descriptor = _open(self.path, os.O_RDONLY)
        try:
            yield OpenDevice(descriptor, self.path, _size(descriptor))
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class OpenDevice:
    """A device that is being read; it has `size` bytes."""

    descriptor: int
    path: str
    size: int

    def conclude(self) -> None:
        """StreamFailed unless it was read to its end."""
        read = os.lseek(self.descriptor, 0, os.SEEK_CUR)
        if read != self.size:
            raise StreamFailed(f"{self.path} has {self.size} bytes, and {read} of them could be read")


@contextmanager
def opened_to_write(path: str, needed: int) -> Iterator[int]:
    """A descriptor of the device at `path`, for us alone; closed at the end. Raises NoDevice, DeviceRefused, and
    DeviceTooSmall where it has less than `needed` bytes."""
    descriptor = _open(path, os.O_RDWR | os.O_EXCL)
    try:
        size = _size(descriptor)
        if size < needed:
            raise DeviceTooSmall(f"{path} has {size} bytes, and what is to be restored has {needed}")
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: str, flags: int) -> int:
    # Asked before it is opened: to open a tape or a FIFO is to do something with it.
    try:
        found = os.stat(path)
    except OSError as error:
        raise NoDevice(f"there is no {path}: {error.strerror}") from error
    if not stat.S_ISBLK(found.st_mode):
        raise NoDevice(f"{path} is no block device")
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DeviceRefused(
                f"{path} is in use: a file system on it is mounted, or it is a part of another device",
                hint="unmount it, or take it out of its group; nothing was written",
            ) from error
        hint = (
            "run as a user that may open it, as the workload that uses it does" if error.errno == errno.EACCES else None
        )
        raise DeviceRefused(f"{path} can't be opened: {error.strerror}", hint=hint) from error


def _size(descriptor: int) -> int:
    size = os.lseek(descriptor, 0, os.SEEK_END)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return size
