"""`lowtide cat`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Result

if TYPE_CHECKING:
    from lowtide_engine.repository import LockedRepository

KINDS = ("config", "masterkey", "snapshot", "index", "key", "lock", "pack", "blob", "tree")
ONLY_ONE = ("config", "masterkey")


@click.command(cls=Command)
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", default="", metavar="[ID]")
@click.pass_context
def command(ctx: click.Context, kind: str, name: str) -> Result:
    """Print an object of the repository: its text, or for a pack and a blob its bytes.

    ID may be the beginning of an id for a snapshot, index, key or lock; for a tree it may be SNAPSHOT:FOLDER. A key is
    printed as it is stored, sealed. The masterkey is what all keys hold: whoever has it reads the repository without a
    password, for ever.
    """  # fmt: skip
    session = Session.of(ctx, "cat")
    if bool(name) == (kind in ONLY_ONE):
        raise click.UsageError(f"{kind} takes no ID" if name else f"say which {kind}: its ID")
    with session.locked() as locked:
        data = _load(locked, kind, name)
    if kind in ("pack", "blob"):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        click.echo(json.dumps(json.loads(data), indent=2, ensure_ascii=False))
    return session.result()


def _load(locked: LockedRepository, kind: str, name: str) -> bytes:
    from lowtide_engine.storage import File, FileKind

    repository = locked.repository
    if kind == "config":
        return repository.config.encode()
    if kind == "masterkey":
        return repository.master_key.to_json()
    if kind in ("blob", "tree"):
        return _load_blob(locked, kind, name)
    file_kind = {
        "snapshot": FileKind.SNAPSHOT,
        "index": FileKind.INDEX,
        "key": FileKind.KEY,
        "lock": FileKind.LOCK,
        "pack": FileKind.DATA,
    }[kind]
    whole = _complete([entry.name for entry in repository.storage.list(file_kind)], kind, name)
    if kind in ("key", "pack"):
        return repository.storage.load(File(file_kind, whole))
    return repository.load_file(file_kind, whole)


def _load_blob(locked: LockedRepository, kind: str, name: str) -> bytes:
    import os

    from lowtide_engine.errors import BadInput
    from lowtide_engine.standing import find_data, snapshots_for
    from lowtide_engine.trees import find_tree

    if kind == "tree" and (":" in name or len(name) != 64):
        snapshot, folder = find_data(snapshots_for(locked, [name], lambda _: None), name, None)
        indexed = locked.load_index()
        return indexed.load_blob("tree", find_tree(indexed, snapshot.tree, os.fsencode(folder)))
    if len(name) != 64:
        raise BadInput(f"a blob has an id of 64 digits, not {len(name)}")
    indexed = locked.load_index()
    if kind == "tree" or indexed.index.contains("tree", name):
        return indexed.load_blob("tree", name)
    return indexed.load_blob("data", name)


def _complete(names: list[str], kind: str, prefix: str) -> str:
    from lowtide_engine.errors import BadInput

    found = [name for name in names if name.startswith(prefix.lower())]
    if len(found) != 1:
        raise BadInput(f"{len(found) or 'no'} {kind} files begin with {prefix!r}", hint="write the whole id")
    return found[0]
