"""How a file or folder of a snapshot is shown, by ls and find."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lowtide_engine.cli.output import human_size
from lowtide_engine.reporting import shown

if TYPE_CHECKING:
    from lowtide_engine._kernel import Node


def node_line(path: bytes, node: Node, *, long_form: bool, human: bool = False) -> str:
    """The path; in the long form with rights, owner, size (in units a person reads with `human`) and time before it."""
    if not long_form:
        return shown(path)
    from lowtide_engine.trees import permissions

    moment = datetime.fromtimestamp(node.mtime[0], UTC).astimezone()
    target = f" -> {shown(node.linktarget)}" if node.type == "symlink" else ""
    size = human_size(node.size) if human else f"{node.size:6}"
    return f"{permissions(node)} {node.uid:5} {node.gid:5} {size} {moment:%Y-%m-%d %H:%M:%S} {shown(path)}{target}"


def node_times(node: Node) -> dict[str, str]:
    """mtime, atime and ctime as RFC 3339."""
    return {which: _rfc3339(getattr(node, which)) for which in ("mtime", "atime", "ctime")}


def _rfc3339(moment: tuple[int, int]) -> str:
    seconds, nanoseconds = moment
    text = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}".rjust(19, "0")
    return text + (f".{nanoseconds:09}".rstrip("0") if nanoseconds else "") + "Z"
