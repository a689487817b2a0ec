"""`lowtide snapshots`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.output import human_size, print_json, table
from lowtide_engine.cli.selecting import choose, filter_options, owner_options, snapshot_filter, taken
from lowtide_engine.cli.session import Session
from lowtide_engine.cli.values import GROUP_BY
from lowtide_engine.contract import Outcome, Result

if TYPE_CHECKING:
    from lowtide_engine.repository import Snapshot

    Groups = dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[Snapshot]]


@click.command(cls=Command)
@click.argument("ids", nargs=-1, metavar="[ID…]")
@filter_options
@owner_options
@click.option("--latest", type=click.IntRange(min=1), metavar="N", help="Only the newest N of each host and paths.")
@click.option("-g", "--group-by", type=GROUP_BY, default="", metavar="KEYS", help="Group by host, paths, tags.")
@click.option("-c", "--compact", is_flag=True, help="Without paths and tags.")
@click.pass_context
def command(ctx: click.Context, /, ids: tuple[str, ...], **given: Any) -> Result:
    """List the snapshots of the repository, oldest first. That none matches is no failure.

    With --run, the exit status is 3 where the newest is partial: so a run whose mover was lost learns what it stored.
    """
    session = Session.of(ctx, "snapshots")
    from lowtide_engine.repository import group
    from lowtide_engine.standing import snapshots_for

    owner = taken(given)
    only = snapshot_filter(given["hosts"], given["tags"], given["paths"], owner)
    keys = given["group_by"]
    with session.locked() as locked:
        found = snapshots_for(locked, ids, session.output.warn)
    chosen = choose(session, found, ids, only)
    if given["latest"]:
        newest = {s.id for members in group(chosen).values() for s in members[-given["latest"] :]}
        chosen = [snapshot for snapshot in chosen if snapshot.id in newest]
    groups: Groups = group(chosen, keys) if keys else {("", (), ()): chosen}
    if session.output.json:
        _print_json(groups, keys)
    else:
        for key, members in groups.items():
            if keys:
                session.output.line(_heading(key, keys))
            session.output.line(_table(members, compact=given["compact"]) if members else "no snapshots")
    ids_found = [snapshot.id for snapshot in chosen][-32:]
    if owner["run"] and newest_is_partial(chosen):
        return session.result("Partial", outcome=Outcome.PARTIAL, snapshot_ids=ids_found)
    return session.result(snapshot_ids=ids_found)


def newest_is_partial(snapshots: Sequence[Snapshot]) -> bool:
    """Whether the last of `snapshots` lacks files that could not be read."""
    from lowtide_engine.standing import PARTIAL_TAG

    return bool(snapshots) and PARTIAL_TAG in snapshots[-1].tags


def document(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as restic's --json shows it."""
    shown: dict[str, Any] = json.loads(snapshot.encode())
    return {**shown, "id": snapshot.id, "short_id": snapshot.short_id}


def _print_json(groups: Groups, keys: Sequence[str]) -> None:
    if not keys:
        print_json([document(snapshot) for members in groups.values() for snapshot in members])
        return
    print_json(
        [
            {
                "group_key": {"hostname": host, "paths": list(paths) or None, "tags": list(tags) or None},
                "snapshots": [document(snapshot) for snapshot in members],
            }
            for (host, paths, tags), members in groups.items()
        ]
    )


def _heading(key: tuple[str, tuple[str, ...], tuple[str, ...]], keys: Sequence[str]) -> str:
    host, paths, tags = key
    parts = [f"host [{host}]"] if "host" in keys else []
    parts += [f"tags [{', '.join(tags)}]"] if "tags" in keys else []
    parts += [f"paths [{', '.join(paths)}]"] if "paths" in keys else []
    return f"snapshots for ({', '.join(parts)}):"


def _table(snapshots: Sequence[Snapshot], *, compact: bool) -> str:
    rows = []
    for snapshot in snapshots:
        moment = snapshot.time.datetime().astimezone()
        size = (snapshot.summary or {}).get("total_bytes_processed")
        row = [snapshot.short_id, f"{moment:%Y-%m-%d %H:%M:%S}", snapshot.hostname, "\n".join(snapshot.tags)]
        if not compact:
            row += ["\n".join(snapshot.paths), human_size(size) if isinstance(size, int) else ""]
        rows.append(row)
    headings = ["ID", "Time", "Host", "Tags"] if compact else ["ID", "Time", "Host", "Tags", "Paths", "Size"]
    return table(headings, rows, f"{len(rows)} snapshots, times are local")
