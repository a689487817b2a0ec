"""`lowtide verdict`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.output import environment_host
from lowtide_engine.cli.selecting import owner_options, taken
from lowtide_engine.cli.session import Session
from lowtide_engine.cli.values import TAGS, refuse_reserved
from lowtide_engine.contract import Result

if TYPE_CHECKING:
    from lowtide_engine.repository import LockedRepository, Snapshot


@click.command(cls=Command)
@click.option(
    "--member",
    "members",
    multiple=True,
    required=True,
    metavar="ID",
    help="Whole id of a snapshot of the run; several for several volumes.",
)
@owner_options
@click.option("-H", "--host", metavar="NAME", help="Host of the snapshot (default: $RESTIC_HOST, else this machine's).")
@click.option("--tag", "tags", multiple=True, type=TAGS, metavar="TAG[,TAG]", help="Tag for the verdict.")
@click.option("--allow-partial", is_flag=True, help="Let members lack files that could not be read.")
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> Result:
    """Say that the snapshots of a run are complete together.

    Writes a small snapshot that names them. Without it they are stored, but never counted as a backup, and --delete
    does not trust them. Repeating it changes nothing.
    """  # fmt: skip
    session = Session.of(ctx, "verdict")
    owner = taken(given)
    if not owner["run"]:
        raise click.UsageError("say which run the verdict is about: --run UID")
    for member in given["members"]:
        if len(member) != 64:
            raise click.BadParameter(f"{member!r} is no whole id: it has 64 digits", param_hint="'--member'")
    tags = refuse_reserved([tag for tags in given["tags"] for tag in tags if tag])

    def give(locked: LockedRepository) -> tuple[Snapshot, bool]:
        from lowtide_engine.verdict import give_verdict

        return give_verdict(
            locked,
            given["members"],
            host=given["host"] or environment_host(session.settings.environment),
            owner=owner,
            tags=tags,
            allow_partial=given["allow_partial"],
            tell=session.output.warn,
        )

    snapshot, new = session.under_lock(give, writes=True)
    session.output.message("verdict", {"snapshot_id": snapshot.id, "members": list(given["members"]), "new": new})
    session.output.line(f"verdict {snapshot.short_id} {'saved' if new else 'was there already'}")
    return session.result("Completed" if new else "Unchanged", snapshot_ids=[snapshot.id])
