"""`lowtide dump`."""

from __future__ import annotations

import os
import sys
from typing import IO, Any, Literal

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.selecting import filter_options, snapshot_filter
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Result


@click.command(cls=Command)
@click.argument("snapshot", metavar="SNAPSHOT[:FOLDER]")
@click.argument("path", metavar="PATH")
@filter_options
@click.option(
    "-a",
    "--archive",
    type=click.Choice(["tar", "zip"]),
    default="tar",
    show_default=True,
    help="Which kind of archive a folder becomes; a zip has no owners, attributes, hard links and devices.",
)
@click.option("-t", "--target", default="", type=click.Path(), metavar="FILE", help="Write into this new file.")
@click.pass_context
def command(
    ctx: click.Context, /, snapshot: str, path: str, target: str, archive: Literal["tar", "zip"], **given: Any
) -> Result:
    """Write a file, or a folder as an archive, to the standard output.

    An archive's names start below the folder.
    """
    session = Session.of(ctx, "dump")
    if not target and sys.stdout.isatty():
        raise click.UsageError("the standard output is a terminal: send it to a file or a program, or give --target")
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.dump import dump
    from lowtide_engine.standing import find_data, snapshots_for

    only = snapshot_filter(given["hosts"], given["tags"], given["paths"])
    with session.locked() as locked:
        chosen, below = find_data(snapshots_for(locked, [snapshot], session.output.warn), snapshot, only)
        indexed = locked.load_index()
        whole = os.fsencode(f"{below.rstrip('/')}/{path.lstrip('/')}")
        with _output(target) as output:
            files = dump(indexed, chosen.tree, whole, output, stop, archive=archive)
    return session.result(snapshot_ids=[chosen.id], files=files)


def _output(target: str) -> IO[bytes]:
    from lowtide_engine.errors import BadInput

    if not target:
        return open(os.dup(sys.stdout.fileno()), "wb")
    try:
        return open(target, "xb")
    except OSError as error:
        raise BadInput(f"could not create {target}: {error.strerror}", hint="name a file that is not there") from error
