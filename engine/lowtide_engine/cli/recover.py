"""`lowtide recover`."""

from __future__ import annotations

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.output import environment_host
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Result


@click.command(cls=Command)
@click.pass_context
def command(ctx: click.Context) -> Result:
    """Make a snapshot of all folders that no snapshot reaches, as after a forget by mistake; before any prune.

    It is tagged recovered. Each folder is called by the beginning of its id; names and paths above it are lost. The
    index is made right before.
    """
    session = Session.of(ctx, "recover")
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.recover import recover
    from lowtide_engine.repair_index import repair_index

    try:
        with session.locked(writes=True, exclusive=True) as locked:
            repair_index(locked, session.output, stop)
            snapshot, roots = recover(locked, environment_host(session.settings.environment), session.output, stop)
    finally:
        session.output.stop_live()
    content = {"roots": len(roots)} | ({"snapshot_id": snapshot.id} if snapshot is not None else {})
    lines = [f"found {len(roots)} folders that no snapshot reaches"]
    if snapshot is not None:
        lines.append(f"snapshot {snapshot.short_id} saved")
    session.output.summary(content, lines)
    return session.result(snapshot_ids=[snapshot.id] if snapshot is not None else [])
