"""`lowtide copy`."""

from __future__ import annotations

from typing import Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.selecting import choose, filter_options, snapshot_filter
from lowtide_engine.cli.session import Session
from lowtide_engine.cli.source import source_options, source_session
from lowtide_engine.contract import Outcome, Result


@click.command(cls=Command)
@click.argument("ids", nargs=-1, metavar="[ID…]")
@source_options
@filter_options
@click.pass_context
def command(ctx: click.Context, /, ids: tuple[str, ...], **given: Any) -> Result:
    """Copy snapshots from another repository into this one: those that are named, else all that the filters select.

    What is copied already is passed over. Where snapshots of the source can't be read, all others are copied, and the
    command fails in the end. Data that both have is stored once where both cut files in the same way:
    make the second with `lowtide init --copy-chunker-params`.
    """
    session = Session.of(ctx, "copy")
    source = source_session(session, given)
    only = snapshot_filter(given["hosts"], given["tags"], given["paths"])
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.copy import copied_before, copy
    from lowtide_engine.standing import snapshots_for

    settings = session.settings
    stored, passed_over = [], 0
    damaged: list[str] = []
    try:
        with source.locked() as reading, session.locked(writes=True) as writing:
            found = snapshots_for(reading, ids, damaged.append)
            for sentence in damaged:
                session.output.warn(sentence)
            chosen = choose(session, found, ids, only)
            known = copied_before(chosen, snapshots_for(writing, (), session.output.warn))
            for snapshot in chosen:
                if snapshot.id in known:
                    passed_over += 1
                    if settings.verbose:
                        session.output.line(f"snapshot {snapshot.short_id} was copied to {known[snapshot.id].short_id}")
            copies = copy(
                reading,
                writing,
                [snapshot for snapshot in chosen if snapshot.id not in known],
                session.output,
                stop,
                pack_size=settings.pack_size,
                compress=settings.compression != "off",
            )
            for old, new in copies:
                stored.append(new)
                session.output.stop_live()
                session.output.message("copied", {"source_snapshot_id": old.id, "snapshot_id": new.id})
                session.output.line(f"snapshot {old.short_id} of {old.time} is copied to {new.short_id}")
    finally:
        session.output.stop_live()
    lines = [f"copied {len(stored)} snapshots, {passed_over} were there already"]
    session.output.summary({"copied_snapshots": len(stored), "skipped_snapshots": passed_over}, lines)
    copied = [snapshot.id for snapshot in stored][-32:]
    if damaged and not ids:
        message = f"{len(damaged)} snapshots of the source can't be read, so they were not copied"
        return session.result("RepositoryDamaged", message, outcome=Outcome.FAILED, snapshot_ids=copied)
    return session.result(snapshot_ids=copied)
