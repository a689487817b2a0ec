"""Processes that may not everything, whoever runs the tests: passed to a run, and executed in the child before it."""

from __future__ import annotations

import ctypes
import errno
import os
import resource

_PR_CAPBSET_DROP = 24
SMALL = 1 << 20
"""Bytes: less than a pack of the plain tree."""


def without_capabilities() -> None:
    """What is executed next may no more than the modes of files allow, root too: like most movers."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(64):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) and ctypes.get_errno() != errno.EINVAL:
            raise OSError(ctypes.get_errno(), "a capability can't be dropped")


def without_room() -> None:
    """What is executed next can write no file beyond SMALL: small files still fit, as on a disk that is nearly full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, SMALL))
