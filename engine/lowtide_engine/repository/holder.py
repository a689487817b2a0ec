"""Who holds a lock, and whether that can still be (restic-format 1.10; design, "Locks")."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lowtide_engine.errors import RepositoryDamaged
from lowtide_engine.repository.go_text import Instant, go_json
from lowtide_engine.repository.keys import own_username

HOLDER_VARIABLE = "LOWTIDE_HOLDER"
"""In a mover: `<cluster uid>.<namespace>.<pod uid>`. It takes the place of the host's name in locks."""

UNREFRESHED_AFTER = 30 * 60.0
"""Seconds after which a lock that nobody refreshed counts as left behind."""

_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""Linux gives the host's own process namespace this number on every machine."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that takes locks. `pid_namespace` tells whether another's pid means anything to us; "" where
    unknown.
    """

    hostname: str
    username: str
    pid: int
    uid: int
    gid: int
    pid_namespace: str = ""

    @classmethod
    def myself(cls, environment: Mapping[str, str] | None = None) -> Holder:
        """This process; its host is LOWTIDE_HOLDER where that is set."""
        values = os.environ if environment is None else environment
        try:
            namespace = os.readlink("/proc/self/ns/pid")
        except OSError:
            namespace = ""
        hostname = values.get(HOLDER_VARIABLE) or os.uname().nodename
        return cls(hostname, own_username(), os.getpid(), os.getuid(), os.getgid(), namespace)


@dataclass(frozen=True, slots=True)
class LockFile:
    """The content of a lock file; `name` is "" before it is stored."""

    time: Instant
    exclusive: bool
    holder: Holder
    name: str = ""

    @classmethod
    def decode(cls, name: str, plaintext: bytes) -> LockFile:
        """Read a lock of restic's or ours; RepositoryDamaged where it isn't one."""
        try:
            document = json.loads(plaintext)
            texts = [document.get(key) or "" for key in ("hostname", "username", "pid_namespace")]
            pid, uid, gid = numbers = [document.get(key) or 0 for key in ("pid", "uid", "gid")]
            exclusive = document.get("exclusive", False)
            if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
                raise TypeError
            time = Instant.parse(document["time"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RepositoryDamaged(f"lock {name[:8]} is not a lock file") from None
        holder = Holder(texts[0], texts[1], pid, uid, gid, texts[2])
        return cls(time, exclusive is True, holder, name)

    def encode(self) -> bytes:
        """The plaintext, keys in restic's order and omitted as it omits them; our own key comes last."""
        document: dict[str, object] = {
            "time": str(self.time),
            "exclusive": self.exclusive,
            "hostname": self.holder.hostname,
            "username": self.holder.username,
            "pid": self.holder.pid,
        }
        own = {"uid": self.holder.uid, "gid": self.holder.gid, "pid_namespace": self.holder.pid_namespace}
        return go_json(document | {key: value for key, value in own.items() if value})

    def renewed(self, now: float) -> LockFile:
        """The same lock as of now, not stored yet."""
        return replace(self, time=Instant.at(now), name="")

    def unrefreshed(self, now: float) -> bool:
        """Whether it wasn't refreshed for 30 minutes."""
        return now - self.time.timestamp > UNREFRESHED_AFTER

    def abandoned(self, now: float, me: Holder) -> bool:
        """Whether `unlock` may remove it: not refreshed for 30 minutes, or held by a process of ours that is gone.

        A pid says something only within one process namespace. Our own locks name theirs; restic's don't, and count as
        the host's, so restic's rule is followed only where we run there ourselves.
        """
        if self.unrefreshed(now):
            return True
        theirs = self.holder.pid_namespace or _INITIAL_PID_NAMESPACE
        if self.holder.hostname != me.hostname or theirs != me.pid_namespace:
            return False
        return not _is_running(self.holder.pid)

    def __str__(self) -> str:
        """For a person: who, what, since when."""
        kind = "an exclusive lock" if self.exclusive else "a lock"
        who = f"{self.holder.username or 'somebody'} on {self.holder.hostname or 'an unknown host'}"
        return f"{kind} {self.name[:8]} by {who} (pid {self.holder.pid}), last refreshed {self.time}"


def _is_running(pid: int) -> bool:
    if pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
