"""`lowtide diff`."""

from __future__ import annotations

import os

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.output import human_size, print_json
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Result

EPILOG = """The letters: + added, - removed, M content changed, T type changed, U metadata changed (with --metadata),
M? the content changed and all metadata is the same, as when a disk fails."""


@click.command(cls=Command, epilog=EPILOG)
@click.argument("before", metavar="SNAPSHOT[:FOLDER]")
@click.argument("after", metavar="SNAPSHOT[:FOLDER]")
@click.option("--metadata", is_flag=True, help="Also name what has only other rights, owners or times.")
@click.pass_context
def command(ctx: click.Context, /, before: str, after: str, metadata: bool) -> Result:
    """Show what changed from one snapshot to another, each a line with a letter, and how much."""
    session = Session.of(ctx, "diff")
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.diff import Comparison
    from lowtide_engine.reporting import shown
    from lowtide_engine.standing import find_data, snapshots_for
    from lowtide_engine.trees import find_tree

    output = session.output
    with session.locked() as locked:
        snapshots = snapshots_for(locked, [before, after], output.warn)
        (first, above), (second, below) = (find_data(snapshots, wanted, None) for wanted in (before, after))
        indexed = locked.load_index()
        old = find_tree(indexed, first.tree, os.fsencode(above))
        new = find_tree(indexed, second.tree, os.fsencode(below))
        output.line(f"comparing snapshot {first.short_id} with {second.short_id}:\n")
        comparison = Comparison(indexed, old, new, stop, metadata=metadata)
        for path, letters in comparison.changes():
            if output.json and not output.quiet:
                text = path.decode("utf-8", "replace")
                print_json({"message_type": "change", "path": text, "modifier": letters})
            else:
                output.line(f"{letters:<5}{shown(path)}")
    difference = comparison.difference
    added, removed = difference.added, difference.removed
    output.message("statistics", {"source_snapshot": before, "target_snapshot": after, **difference.document()})
    for line in (
        "",
        f"Files:       {added.files:5} new, {removed.files:5} removed, {difference.changed_files:5} changed",
        f"Dirs:        {added.dirs:5} new, {removed.dirs:5} removed",
        f"Others:      {added.others:5} new, {removed.others:5} removed",
        f"Data Blobs:  {added.data_blobs:5} new, {removed.data_blobs:5} removed",
        f"Tree Blobs:  {added.tree_blobs:5} new, {removed.tree_blobs:5} removed",
        f"  Added:   {human_size(added.bytes)}",
        f"  Removed: {human_size(removed.bytes)}",
    ):
        output.line(line)
    return session.result(snapshot_ids=[first.id, second.id])
