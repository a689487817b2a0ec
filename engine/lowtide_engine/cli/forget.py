"""`lowtide forget`."""

from __future__ import annotations

import re
from typing import Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.output import print_json
from lowtide_engine.cli.selecting import owner_options, snapshot_filter, taken
from lowtide_engine.cli.session import Session
from lowtide_engine.cli.values import TAGS
from lowtide_engine.contract import Result


@click.command(cls=Command)
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.option("--tag", "tags", multiple=True, type=TAGS, metavar="TAG[,TAG]", help="Those that have all these tags.")
@owner_options
@click.option("-n", "--dry-run", is_flag=True, help="Remove nothing, only say what would be removed.")
@click.pass_context
def command(ctx: click.Context, /, ids: tuple[str, ...], **given: Any) -> Result:
    """Remove snapshots by their ids, or those of one run.

    An id that is gone already is no failure. The data is freed by a prune. Without an id, --run or --tag nothing is
    removed.
    """
    session = Session.of(ctx, "forget")
    owner = taken(given)
    if not ids and not owner["run"] and not given["tags"]:
        raise click.UsageError("say which snapshots are to be removed: by ids, or by --run or --tag")
    for wanted in ids:
        if not re.fullmatch(r"[0-9a-fA-F]{4,64}", wanted):
            raise click.BadParameter(f"{wanted!r} is no id, nor four or more digits of one", param_hint="'ID'")
    from lowtide_engine.forget import forget

    only = snapshot_filter((), given["tags"], (), owner) if owner["run"] or given["tags"] else None
    with session.locked(writes=True, exclusive=True) as locked:
        forgotten = forget(locked, ids, only, session.output, dry_run=given["dry_run"])
    would = "would remove" if given["dry_run"] else "removed"
    for snapshot in forgotten:
        session.output.line(f"{would} snapshot {snapshot.short_id} of {snapshot.time} {' '.join(snapshot.paths)}")
    if session.output.json:
        print_json([{"id": snapshot.id, "short_id": snapshot.short_id} for snapshot in forgotten])
    return session.result(snapshot_ids=[snapshot.id for snapshot in forgotten][:32])
