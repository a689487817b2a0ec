"""`lowtide mount`."""

from __future__ import annotations

from typing import Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.selecting import filter_options, snapshot_filter
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Result


@click.command(cls=Command)
@click.argument("folder", metavar="FOLDER", type=click.Path())
@filter_options
@click.option("--allow-other", is_flag=True, help="Let other users in.")
@click.option("--no-default-permissions", is_flag=True, help="With --allow-other: whatever the rights of files are.")
@click.option("--owner-root", is_flag=True, help="Say that everything belongs to root.")
@click.pass_context
def command(ctx: click.Context, /, folder: str, **given: Any) -> Result:
    """Show snapshots as files below FOLDER, read-only, until it is unmounted or the command is stopped.

    There they are by id, by time, by host and by tag; `latest` leads to the newest. Those that come later are not
    seen. It needs FUSE and the Python module mfusepy, which are no part of the image.
    """
    session = Session.of(ctx, "mount")
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.mount import mount

    only = snapshot_filter(given["hosts"], given["tags"], given["paths"])
    with session.locked() as locked:
        chosen = [snapshot for snapshot in locked.snapshots() if only.matches(snapshot)]
        indexed = locked.load_index()
        session.output.line(f"{len(chosen)} snapshots are in {folder}; unmount it or press Ctrl-C to end")
        mount(
            indexed,
            chosen,
            folder,
            stop,
            session.output.warn,
            allow_other=given["allow_other"],
            default_permissions=not given["no_default_permissions"],
            owner_root=given["owner_root"],
        )
    return session.result()
