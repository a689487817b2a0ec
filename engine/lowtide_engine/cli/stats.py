"""`lowtide stats`."""

from __future__ import annotations

from typing import Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.output import human_size, print_json
from lowtide_engine.cli.selecting import choose, filter_options, snapshot_filter
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Result

_MODES = ["restore-size", "files-by-contents", "blobs-per-file", "raw-data"]


@click.command(cls=Command)
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.option("--mode", type=click.Choice(_MODES), default="restore-size", show_default=True, help="What is counted.")
@filter_options
@click.pass_context
def command(ctx: click.Context, /, ids: tuple[str, ...], mode: Any, **given: Any) -> Result:
    """Count what snapshots hold: those that are named, else all that the filters select.

    restore-size is what a restore of each would write. files-by-contents counts files of equal content once;
    blobs-per-file counts each piece of those once a file. raw-data is what they occupy in the repository, each piece
    once.
    """
    session = Session.of(ctx, "stats")
    only = snapshot_filter(given["hosts"], given["tags"], given["paths"])
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.standing import snapshots_for
    from lowtide_engine.stats import count

    with session.locked() as locked:
        chosen = choose(session, snapshots_for(locked, ids, session.output.warn), ids, only)
        try:
            stats = count(locked.load_index(), chosen, mode, session.output, stop)
        finally:
            session.output.stop_live()
    optional = {
        "total_uncompressed_size": stats.uncompressed,
        "compression_ratio": stats.ratio,
        "compression_progress": stats.progress,
        "compression_space_saving": stats.saving,
        "total_file_count": stats.files,
        "total_blob_count": stats.blobs,
    }
    if session.output.json:
        counts = {name: value for name, value in optional.items() if value}
        print_json({"total_size": stats.size, **counts, "snapshots_count": stats.snapshots})
    lines = {
        "Snapshots processed": f"{stats.snapshots}",
        "Total Blob Count": f"{stats.blobs}" if stats.blobs else "",
        "Total File Count": f"{stats.files}" if stats.files else "",
        "Total Uncompressed Size": human_size(stats.uncompressed) if stats.uncompressed else "",
        "Total Size": human_size(stats.size),
        "Compression Progress": f"{stats.progress:.2f}%" if stats.progress else "",
        "Compression Ratio": f"{stats.ratio:.2f}x" if stats.ratio else "",
        "Compression Space Saving": f"{stats.saving:.2f}%" if stats.saving else "",
    }
    session.output.line(f"Stats in {mode} mode:")
    for name, value in lines.items():
        if value:
            session.output.line(f"{name:>24}:  {value}")
    return session.result(files=stats.files, size=stats.size)
