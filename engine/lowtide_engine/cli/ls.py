"""`lowtide ls`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from lowtide_engine.cli.nodes import node_line, node_times
from lowtide_engine.cli.options import Command
from lowtide_engine.cli.output import print_json
from lowtide_engine.cli.selecting import filter_options, snapshot_filter
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Result

if TYPE_CHECKING:
    from lowtide_engine._kernel import Node

    _Order = Callable[[bytes, Node], Any]

ORDERS: dict[str, _Order | None] = {
    "name": None,
    "size": lambda _, node: node.size,
    "time": lambda _, node: node.mtime,
    "mtime": lambda _, node: node.mtime,
    "atime": lambda _, node: node.atime,
    "ctime": lambda _, node: node.ctime,
    "extension": lambda path, _: _extension(path),
}


@click.command(cls=Command)
@click.argument("snapshot", metavar="SNAPSHOT[:FOLDER]")
@click.argument("folders", nargs=-1, metavar="[FOLDER…]")
@filter_options
@click.option("-l", "--long", "long_form", is_flag=True, help="With rights, owner, size and time.")
@click.option("--human-readable", is_flag=True, help="With --long: sizes in KiB, MiB, GiB.")
@click.option("--recursive", is_flag=True, help="Below the given folders, everything.")
@click.option(
    "-s",
    "--sort",
    "order",
    type=click.Choice([*ORDERS]),
    default="name",
    help="Sort all that is listed by this (default: name, folder by folder); time is mtime.",
)
@click.option("--reverse", is_flag=True, help="The last one first.")
@click.pass_context
def command(
    ctx: click.Context, /, snapshot: str, folders: tuple[str, ...], *, long_form: bool, recursive: bool, **given: Any
) -> Result:
    """List the files of a snapshot; of the given folders only what is directly in them."""
    session = Session.of(ctx, "ls")
    for folder in folders:
        if not folder.startswith("/"):
            raise click.BadParameter(f"{folder!r} must start with /", param_hint="'FOLDER'")
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.cli.snapshots import document
    from lowtide_engine.errors import Interrupted
    from lowtide_engine.standing import find_data, snapshots_for
    from lowtide_engine.trees import find_node, walk

    only = snapshot_filter(given["hosts"], given["tags"], given["paths"])
    with session.locked() as locked:
        chosen, below = find_data(snapshots_for(locked, [snapshot], session.output.warn), snapshot, only)
        indexed = locked.load_index()
        if session.output.json:
            print_json({**document(chosen), "message_type": "snapshot", "struct_type": "snapshot"})
        else:
            session.output.line(f"snapshot {chosen.short_id} of {list(chosen.paths)} at {chosen.time}:")

        def listed() -> Iterator[tuple[bytes, Node]]:
            for start in folders or (below,):
                node = find_node(indexed, chosen.tree, os.fsencode(start))
                prefix = os.fsencode(start.rstrip("/")) if folders else b""
                if node is not None and folders:
                    yield prefix, node
                tree = chosen.tree if node is None else node.subtree
                if tree is not None:
                    yield from walk(indexed, tree, prefix, enter=lambda _: recursive or not folders)

        for path, found in _sorted(listed(), ORDERS[given["order"]], reverse=given["reverse"]):
            if stop.is_set():
                raise Interrupted("the listing was stopped by a signal")
            _show(session, path, found, long_form=long_form, human=given["human_readable"])
    return session.result(snapshot_ids=[chosen.id])


def _extension(path: bytes) -> bytes:
    """The last dot of a name and what follows; nothing where there is none."""
    _, dot, ending = path.rpartition(b"/")[2].rpartition(b".")
    return dot + ending if dot else b""


def _sorted(
    listed: Iterator[tuple[bytes, Node]], order: _Order | None, *, reverse: bool
) -> Iterable[tuple[bytes, Node]]:
    """In the order of the trees everything is shown as it comes; else all must be known first."""
    if order is None and not reverse:
        return listed
    found = [*listed]
    if order is not None:
        found.sort(key=lambda one: (order(*one), one[0]))
    return reversed(found) if reverse else found


def _show(session: Session, path: bytes, node: Node, *, long_form: bool, human: bool) -> None:
    if session.output.json:
        print_json(_document(path, node))
    else:
        session.output.line(node_line(path, node, long_form=long_form, human=human))


def _document(path: bytes, node: Node) -> dict[str, Any]:
    from lowtide_engine.trees import permissions

    name = node.name.decode("utf-8", "replace")
    found: dict[str, Any] = {"name": name, "type": node.type, "path": path.decode("utf-8", "replace")}
    found |= {"uid": node.uid, "gid": node.gid}
    if node.type == "file":
        found["size"] = node.size
    if node.mode:
        found["mode"] = node.mode
    found["permissions"] = permissions(node)
    found |= node_times(node)
    if node.inode:
        found["inode"] = node.inode
    return {**found, "message_type": "node", "struct_type": "node"}
