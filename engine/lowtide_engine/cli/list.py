"""`lowtide list`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Result

if TYPE_CHECKING:
    from lowtide_engine.repository import LockedRepository

_KINDS = ("blobs", "packs", "index", "snapshots", "keys", "locks")


@click.command(cls=Command)
@click.argument("kind", type=click.Choice(_KINDS))
@click.pass_context
def command(ctx: click.Context, kind: str) -> Result:
    """List the ids of all objects of a kind, one a line; of blobs with data or tree before it.

    The locks are listed without taking one.
    """
    session = Session.of(ctx, "list")
    with session.repository() as repository:
        if kind == "locks":
            _print(_listed(repository.unlocked(), kind))
        else:
            with session.lock(repository, writes=False) as locked:
                _print(_listed(locked, kind))
    return session.result()


def _print(lines: Iterator[str]) -> None:
    for line in lines:
        print(line)


def _listed(locked: LockedRepository, kind: str) -> Iterator[str]:
    from lowtide_engine.storage import FileKind

    if kind == "blobs":
        index = locked.load_index().index
        for pack in index.packs():
            yield from (f"{entry.kind} {entry.blob}" for entry in index.pack_entries(pack))
        return
    kinds = {
        "packs": FileKind.DATA,
        "index": FileKind.INDEX,
        "snapshots": FileKind.SNAPSHOT,
        "keys": FileKind.KEY,
        "locks": FileKind.LOCK,
    }
    for entry in locked.repository.storage.list(kinds[kind]):
        yield entry.name
