"""`lowtide mount`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.selecting import filter_options, snapshot_filter
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Result

if TYPE_CHECKING:
    from lowtide_engine.repository import IndexedRepository, Snapshot


@click.command(cls=Command)
@click.argument("folder", metavar="FOLDER", type=click.Path())
@filter_options
@click.option("--allow-other", is_flag=True, help="Let other users in.")
@click.option("--no-default-permissions", is_flag=True, help="With --allow-other: whatever the rights of files are.")
@click.option("--owner-root", is_flag=True, help="Say that everything belongs to root.")
@click.pass_context
def command(ctx: click.Context, /, folder: str, **given: Any) -> Result:
    """Show snapshots as files below FOLDER, read-only, until it is unmounted or the command is stopped.

    There they are by id, by time, by host and by tag; `latest` leads to the newest. Those that come later are seen
    after a minute. It needs FUSE and the Python module mfusepy, which are no part of the image.
    """
    session = Session.of(ctx, "mount")
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.errors import EngineError
    from lowtide_engine.mount import mount
    from lowtide_engine.standing import snapshots_for

    only = snapshot_filter(given["hosts"], given["tags"], given["paths"])
    with session.locked() as locked:
        shown = snapshots_for(locked, (), session.output.warn)
        chosen = [snapshot for snapshot in shown if only.matches(snapshot)]
        indexed = locked.load_index()
        known = {snapshot.id for snapshot in shown}

        def renew() -> tuple[IndexedRepository, list[Snapshot]] | None:
            nonlocal known
            try:
                now = snapshots_for(locked, (), lambda _: None)
                if (names := {snapshot.id for snapshot in now}) == known:
                    return None
                renewed = locked.load_index()
            except EngineError as error:
                session.output.warn(f"whether there are newer snapshots can't be told: {error}")
                return None
            known = names
            return renewed, [snapshot for snapshot in now if only.matches(snapshot)]

        session.output.line(f"{len(chosen)} snapshots are in {folder}; unmount it or press Ctrl-C to end")
        mount(
            indexed,
            chosen,
            folder,
            stop,
            session.output.warn,
            renew=renew,
            allow_other=given["allow_other"],
            default_permissions=not given["no_default_permissions"],
            owner_root=given["owner_root"],
        )
    return session.result()
