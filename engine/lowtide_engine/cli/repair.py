"""`lowtide repair`: index, packs, snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.rewritten import say_rewritten
from lowtide_engine.cli.selecting import choose, filter_options, snapshot_filter
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Outcome, Result


@click.group(no_args_is_help=True)
def command() -> None:
    """Mend a damaged repository: first the index, then packs that a check names, then the snapshots.

    Keep a copy of the repository where you can: what a repair removes is gone.
    """


@command.command("index", cls=Command)
@click.option("--read-all-packs", is_flag=True, help="Use no index file that is there, but read every pack.")
@click.pass_context
def index_command(ctx: click.Context, read_all_packs: bool) -> Result:
    """Make the index agree with the packs: name those that it lacks, and no more those that are not there.

    Where the storage can't give a pack, what index files say of it stays, the rest is done, and the exit status is 1.
    """
    session = Session.of(ctx, "repair").uncached()
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.repair_index import repair_index

    try:
        with session.locked(writes=True, exclusive=True) as locked:
            repair = repair_index(locked, session.output, stop, read_all=read_all_packs)
    finally:
        session.output.stop_live()
    content = {
        "packs_added": repair.added,
        "packs_unreadable": repair.unreadable,
        "packs_withheld": repair.withheld,
        "packs_missing": repair.missing,
        "index_files_damaged": repair.damaged_indexes,
        "index_files_written": repair.written,
        "index_files_removed": repair.removed,
    }
    lines = [
        f"{len(repair.added)} packs were read and are in the index, {len(repair.unreadable)} are damaged",
        f"{len(repair.missing)} packs that are not there were taken out of it",
        f"{repair.written} index files were written, {repair.removed} removed",
    ]
    session.output.summary(content, lines)
    if not repair.withheld:
        return session.result()
    message = f"{len(repair.withheld)} packs could not be read"
    advice = "run it again once the storage gives them, or save what can be read of them by `lowtide repair packs`"
    session.output.notice(f"{message}: {advice}")
    return session.result("FileUnreadable", message, outcome=Outcome.FAILED)


@command.command("packs", cls=Command)
@click.argument("packs", nargs=-1, required=True, metavar="ID…")
@click.pass_context
def packs_command(ctx: click.Context, /, packs: tuple[str, ...]) -> Result:
    """Save what can still be read of damaged packs, and remove them; `lowtide check --read-data` names them.

    A copy of each is kept in the current folder, as pack-ID. Afterwards `lowtide repair snapshots --forget` rids
    snapshots of what is lost.
    """
    from lowtide_engine.storage import is_id

    session = Session.of(ctx, "repair").uncached()
    for pack in packs:
        if not is_id(pack.lower()):
            raise click.BadParameter(f"{pack!r} is no whole id of a pack", param_hint="'ID'")
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.repair_packs import repair_packs

    try:
        with session.locked(writes=True, exclusive=True) as locked:
            whole = list(dict.fromkeys(pack.lower() for pack in packs))
            size = session.settings.pack_size
            repair = repair_packs(locked, whole, Path.cwd(), session.output, stop, pack_size=size)
    finally:
        session.output.stop_live()
    lost = [{"type": kind, "id": blob} for kind, blob in repair.lost]
    lines = [f"{repair.saved} blobs were saved, {len(lost)} can't be read; {len(whole)} packs were removed"]
    session.output.summary({"packs_removed": whole, "blobs_saved": repair.saved, "blobs_lost": lost}, lines)
    return session.result()


@command.command("snapshots", cls=Command)
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.option("--forget", is_flag=True, help="Remove the damaged snapshots, once the new ones are stored.")
@click.option("-n", "--dry-run", is_flag=True, help="Write nothing, only say what would be done.")
@filter_options
@click.pass_context
def snapshots_command(ctx: click.Context, /, ids: tuple[str, ...], **given: Any) -> Result:
    """Make whole snapshots of damaged ones, without what is lost: of those that are named, else of all that the filters
    select. Mend the index first.

    A folder that can't be read becomes empty, a file loses the pieces that are missing. The new ones are tagged
    lowtide:partial, and without --forget also repaired.
    """
    session = Session.of(ctx, "repair").uncached()
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.repair_snapshots import repair_snapshots

    only = snapshot_filter(given["hosts"], given["tags"], given["paths"])
    forget, dry_run = given["forget"], given["dry_run"]
    with session.locked(writes=not dry_run, exclusive=not dry_run) as locked:
        snapshots = locked.snapshots(on_damaged=lambda name, error: session.output.warn(error.message))
        changes = repair_snapshots(
            locked,
            choose(session, snapshots, ids, only),
            snapshots,
            session.output,
            stop,
            forget=forget,
            dry_run=dry_run,
            pack_size=session.settings.pack_size,
        )
        return say_rewritten(session, changes, forget=forget, dry_run=dry_run)
