"""`lowtide unlock`."""

from __future__ import annotations

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Result


@click.command(cls=Command)
@click.option("--remove-all", is_flag=True, help="Remove all locks, also those of living processes: may do damage.")
@click.pass_context
def command(ctx: click.Context, remove_all: bool) -> Result:
    """Remove locks that no living process holds.

    Those that nobody refreshed for 30 minutes, those of ended processes of this machine, and those of each
    --dead-holder.
    """
    session = Session.of(ctx, "unlock")
    with session.repository() as repository:
        if remove_all:
            removed = repository.locks.remove_all()
        else:
            gone = [lock for name in session.settings.dead_holder for lock in repository.locks.remove_held_by(name)]
            gone += repository.locks.remove_abandoned()
            for lock in gone:
                session.output.line(f"removed {lock}")
            removed = len(gone)
    session.output.message("unlocked", {"removed": removed})
    session.output.line(f"{removed} locks removed")
    return session.result()
