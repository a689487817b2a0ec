"""`lowtide find`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lowtide_engine.cli.nodes import node_line, node_times
from lowtide_engine.cli.options import Command
from lowtide_engine.cli.output import print_json
from lowtide_engine.cli.selecting import choose, filter_options, snapshot_filter
from lowtide_engine.cli.session import Session
from lowtide_engine.cli.values import TIME
from lowtide_engine.contract import Result

if TYPE_CHECKING:
    from lowtide_engine._kernel import Node
    from lowtide_engine.find import Hit, Objects, Wanted
    from lowtide_engine.repository import IndexedRepository, Snapshot


@click.command(cls=Command)
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN|ID…")
@click.option("-O", "--oldest", type=TIME, metavar="TIME", help="Only what was changed then or later.")
@click.option("-N", "--newest", type=TIME, metavar="TIME", help="Only what was changed then or earlier.")
@click.option("-s", "--snapshot", "ids", multiple=True, metavar="ID", help="Only in this snapshot; several: in any.")
@click.option("--blob", is_flag=True, help="Say which files use these blobs of data.")
@click.option("--tree", is_flag=True, help="Say which folders are these trees.")
@click.option("--pack", is_flag=True, help="Say which files and folders need these packs.")
@click.option("--show-pack-id", is_flag=True, help="With --blob or --tree: also say in which pack it is.")
@click.option("-i", "--ignore-case", is_flag=True, help="Whether letters are upper or lower case does not matter.")
@click.option("-R", "--reverse", is_flag=True, help="Begin with the oldest snapshot.")
@click.option("-l", "--long", "long_form", is_flag=True, help="With rights, owner, size and time.")
@click.option("--human-readable", is_flag=True, help="With --long: sizes in KiB, MiB, GiB.")
@filter_options
@click.pass_context
def command(ctx: click.Context, /, patterns: tuple[str, ...], ids: tuple[str, ...], **given: Any) -> Result:
    """Find files in snapshots, newest first: by patterns, as `--exclude` has them.

    With --blob, --tree or --pack instead: what uses these objects of the repository. Ids may be cut.
    """
    session = Session.of(ctx, "find")
    kinds: list[Objects] = [kind for kind in ("blob", "tree", "pack") if given[kind]]
    if len(kinds) > 1:
        raise click.UsageError("give one of --blob, --tree and --pack")
    if given["oldest"] and given["newest"] and given["oldest"] > given["newest"]:
        raise click.UsageError("--oldest is later than --newest, so nothing can be found")
    if any(not pattern for pattern in patterns):
        raise click.UsageError("a pattern is empty, which would match nothing or everything")
    from lowtide_engine.find import Wanted
    from lowtide_engine.standing import snapshots_for

    only = snapshot_filter(given["hosts"], given["tags"], given["paths"])
    with session.locked() as locked:
        snapshots = choose(session, snapshots_for(locked, ids, session.output.warn), ids, only)
        snapshots.sort(key=lambda snapshot: snapshot.time, reverse=not given["reverse"])
        indexed = locked.load_index()
        if kinds:
            _find_objects(session, indexed, snapshots, kinds[0], patterns, packs=given["show_pack_id"])
        else:
            wanted = Wanted(
                [os.fsencode(pattern) for pattern in patterns], given["ignore_case"], given["oldest"], given["newest"]
            )
            _find_files(session, indexed, snapshots, wanted, given)
    return session.result()


def _find_files(
    session: Session,
    indexed: IndexedRepository,
    snapshots: Sequence[Snapshot],
    wanted: Wanted,
    given: dict[str, Any],
) -> None:
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.find import find_files

    found = []
    for snapshot in snapshots:
        matches = []
        for path, node in find_files(indexed, snapshot, wanted, stop):
            if session.output.json:
                matches.append(_document(path, node))
                continue
            if not matches:
                session.output.line(f"found in snapshot {snapshot.short_id} of {snapshot.time}:")
                matches.append({})
            session.output.line(node_line(path, node, long_form=given["long_form"], human=given["human_readable"]))
        if matches:
            found.append({"matches": matches, "hits": len(matches), "snapshot": snapshot.id})
    if session.output.json:
        print_json(found)


def _document(path: bytes, node: Node) -> dict[str, Any]:
    """A node as restic's find shows it: without its name, content and attributes."""
    from lowtide_engine.trees import permissions

    optional = {
        "user": node.user,
        "group": node.group,
        "inode": node.inode,
        "device_id": node.device_id,
        "size": node.size,
        "links": node.links,
        "linktarget": node.linktarget.decode("utf-8", "replace"),
        "error": node.error,
    }
    return {
        "path": path.decode("utf-8", "replace"),
        "permissions": permissions(node),
        "type": node.type,
        **({"mode": node.mode} if node.mode else {}),
        **node_times(node),
        "uid": node.uid,
        "gid": node.gid,
        **{name: value for name, value in optional.items() if value},
    }


def _find_objects(
    session: Session,
    indexed: IndexedRepository,
    snapshots: Sequence[Snapshot],
    objects: Objects,
    ids: Sequence[str],
    *,
    packs: bool,
) -> None:
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.find import Search

    search = Search.of(indexed, objects, ids)
    found = []
    names: dict[tuple[str, str], None] = {}
    for snapshot in snapshots:
        for hit in search.uses(indexed, snapshot, stop):
            names[hit.kind, hit.id] = None
            if session.output.json:
                found.append(_hit_document(hit, snapshot))
            else:
                _say_hit(session, hit, snapshot)
    if session.output.json:
        print_json(found)
    elif packs:
        for kind, name in names:
            for place in indexed.index.locate("tree" if kind == "tree" else "data", name)[:1]:
                where = f"from byte {place.offset}, {place.length} bytes"
                session.output.line(f"{kind} {name} is in pack {place.pack}, {where}")


def _hit_document(hit: Hit, snapshot: Snapshot) -> dict[str, Any]:
    return {
        "object_type": hit.kind,
        "id": hit.id,
        "path": hit.path.decode("utf-8", "replace"),
        **({"parent_tree": hit.parent} if hit.parent else {}),
        "snapshot": snapshot.id,
        "time": str(snapshot.time),
    }


def _say_hit(session: Session, hit: Hit, snapshot: Snapshot) -> None:
    from lowtide_engine.reporting import shown

    session.output.line(f"found {hit.kind} {hit.id}")
    what = f"file {shown(hit.path)} (tree {hit.parent})" if hit.kind == "blob" else f"path {shown(hit.path)}"
    session.output.line(f"  in {what} of snapshot {snapshot.short_id} ({snapshot.time})")
