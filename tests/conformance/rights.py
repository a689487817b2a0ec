"""Processes that may not everything, whoever runs the tests: passed to a run, and executed in the child before it."""

from __future__ import annotations

import ctypes
import errno
import os
import resource

_PR_CAPBSET_DROP = 24
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
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


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_so", ctypes.c_uint8),
        ("if_not", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def without_syncing() -> None:
    """In what is executed next, bringing a file system to the disk fails with EIO: what was written is not there."""
    number = {"x86_64": 306, "aarch64": 267}[os.uname().machine]
    instructions = (_Instruction * 4)(
        _Instruction(0x20, 0, 0, 0),  # the number of the call
        _Instruction(0x15, 0, 1, number),
        _Instruction(0x06, 0, 0, 0x00050000 | errno.EIO),
        _Instruction(0x06, 0, 0, 0x7FFF0000),
    )
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(instructions), instructions)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "no filter can be set")


def without_room() -> None:
    """What is executed next can write no file beyond SMALL: small files still fit, as on a disk that is nearly full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, SMALL))
