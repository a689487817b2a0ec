"""`lowtide rewrite`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lowtide_engine.cli.excludes import encoded_patterns, exclude_options, include_options
from lowtide_engine.cli.options import Command
from lowtide_engine.cli.rewritten import say_rewritten
from lowtide_engine.cli.selecting import choose, filter_options, snapshot_filter
from lowtide_engine.cli.session import Session
from lowtide_engine.cli.values import TIME
from lowtide_engine.contract import Result

if TYPE_CHECKING:
    from lowtide_engine.rewrite import RewriteRequest


@click.command(cls=Command)
@click.argument("ids", nargs=-1, metavar="[ID…]")
@exclude_options
@include_options
@click.option("--new-host", default="", metavar="NAME", help="Say that they are of this host.")
@click.option("--new-time", type=TIME, metavar="TIME", help="Say that they were taken then.")
@click.option("-s", "--snapshot-summary", is_flag=True, help="Count the files of those that have no summary.")
@click.option("--forget", is_flag=True, help="Remove the old snapshots, once the new ones are stored.")
@click.option("-n", "--dry-run", is_flag=True, help="Write nothing, only say what would be done.")
@filter_options
@click.pass_context
def command(ctx: click.Context, /, ids: tuple[str, ...], **given: Any) -> Result:
    """Make new snapshots of old ones, without some files, or with another host or time: of those that are named, else
    of all that the filters select.

    Without --forget the new ones stand beside the old, are tagged rewrite, and belong to no run of Lowtide. What only
    old ones used is freed by a prune.
    """
    session = Session.of(ctx, "rewrite")
    request = _request(session, given)
    only = snapshot_filter(given["hosts"], given["tags"], given["paths"])
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.rewrite import rewrite

    with session.locked(writes=not request.dry_run, exclusive=request.forget and not request.dry_run) as locked:
        snapshots = locked.snapshots()
        chosen = choose(session, snapshots, ids, only)
        changes = rewrite(locked, chosen, snapshots, request, stop)
        return say_rewritten(session, changes, forget=request.forget, dry_run=request.dry_run)


def _request(session: Session, given: dict[str, Any]) -> RewriteRequest:
    from lowtide_engine.rewrite import RewriteRequest

    patterns = encoded_patterns(given, session.settings.environment)
    includes, excludes = ([*patterns[name], *patterns[f"i{name}"]] for name in ("includes", "excludes"))
    if includes and excludes:
        raise click.UsageError("give excludes or includes, not both")
    if not (includes or excludes or given["new_host"] or given["new_time"] or given["snapshot_summary"]):
        raise click.UsageError("say what is to be changed: by --exclude, --include, --new-host, --new-time or -s")
    return RewriteRequest(
        **patterns,
        host=given["new_host"],
        time=given["new_time"],
        summary=given["snapshot_summary"],
        forget=given["forget"],
        dry_run=given["dry_run"],
        pack_size=session.settings.pack_size,
    )
