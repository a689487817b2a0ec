"""`lowtide tag`."""

from __future__ import annotations

from typing import Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.selecting import choose, filter_options, snapshot_filter
from lowtide_engine.cli.session import Session
from lowtide_engine.cli.values import TAGS, refuse_reserved
from lowtide_engine.contract import Result


@click.command(cls=Command)
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.option("--set", "replacing", multiple=True, type=TAGS, metavar="TAG[,TAG]",
              help="Tags in place of those it has; '' for none.")  # fmt: skip
@click.option("--add", "adding", multiple=True, type=TAGS, metavar="TAG[,TAG]", help="Tags to add.")
@click.option("--remove", "removing", multiple=True, type=TAGS, metavar="TAG[,TAG]", help="Tags to take away.")
@filter_options
@click.pass_context
def command(ctx: click.Context, /, ids: tuple[str, ...], **given: Any) -> Result:
    """Change the tags of snapshots: of those that are named, else of all that the filters select.

    A snapshot with other tags is another snapshot: it gets a new id, and remembers the first one. Tags that start with
    lowtide: say whose a snapshot is; they can't be given here, and stay.
    """
    session = Session.of(ctx, "tag")
    lists = {key: [tag for tags in given[key] for tag in tags] for key in ("replacing", "adding", "removing")}
    if not any(lists.values()):
        raise click.UsageError("say what is to be changed: --set, --add or --remove")
    if lists["replacing"] and (lists["adding"] or lists["removing"]):
        raise click.UsageError("--set replaces all tags: leave it, or --add and --remove, out")
    for key, option in (("replacing", "--set"), ("adding", "--add"), ("removing", "--remove")):
        refuse_reserved(lists[key], option=option)
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.tag import TagChange, tag

    change = TagChange(lists["replacing"] or None, lists["adding"], lists["removing"])
    only = snapshot_filter(given["hosts"], given["tags"], given["paths"])
    stored = []
    with session.locked(writes=True, exclusive=True) as locked:
        snapshots = locked.snapshots()
        for old, new in tag(locked, choose(session, snapshots, ids, only), snapshots, change, stop):
            session.output.message("changed", {"old_snapshot_id": old.id, "new_snapshot_id": new.id})
            session.output.line(f"snapshot {old.short_id} is now {new.short_id}: {', '.join(new.tags) or 'no tags'}")
            stored.append(new.id)
    session.output.summary({"changed_snapshots": len(stored)}, [f"modified {len(stored)} snapshots"])
    return session.result(snapshot_ids=stored[-32:])
