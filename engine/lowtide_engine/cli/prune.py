"""`lowtide prune`, and what `lowtide forget --prune` shares with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.output import human_size
from lowtide_engine.cli.session import Session
from lowtide_engine.cli.values import SIZE, Value, parse_size
from lowtide_engine.contract import Result

if TYPE_CHECKING:
    from lowtide_engine.prune_plan import PruneOptions
    from lowtide_engine.repository import LockedRepository

EPILOG = """Exit status is 0 if all was done, 1 if it failed, 10 if there is no repository, 11 if it is locked, 12 if
the password is wrong, 130 if a signal stopped it; then, and after any failure, the next prune goes on."""


class MaxUnused(NamedTuple):
    """How much unused data may stay: a share of all, or bytes; neither means any amount."""

    share: float | None = None
    size: int | None = None


def parse_max_unused(text: str) -> MaxUnused:
    """What `5%`, `2G` or `unlimited` means. Raises ValueError."""
    if text == "unlimited":
        return MaxUnused()
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)%", text.strip()):
        share = float(match[1]) / 100
        if share >= 1:
            raise ValueError(f"{text!r} would let everything be unused: write less than 100%, or `unlimited`")
        return MaxUnused(share=share)
    return MaxUnused(size=parse_size(text))


def prune_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--max-unused and the other limits, as restic has them."""
    for option in (
        click.option("--repack-small", is_flag=True, hidden=True, help="Small packs are always put together."),
        click.option("--repack-smaller-than", type=SIZE, metavar="SIZE", help="Put packs below this size together."),
        click.option("--repack-uncompressed", is_flag=True, help="Compress all that isn't (repository version 2)."),
        click.option("--repack-cacheable-only", is_flag=True, help="Write only packs of trees anew."),
        click.option("--max-repack-size", type=SIZE, metavar="SIZE", help="Write at most so much anew."),
        click.option("--max-unused", type=Value("limit", parse_max_unused), default="5%", metavar="LIMIT",
                     show_default=True, help="How much unused data may stay: a share, a size, or `unlimited`."),
    ):  # fmt: skip
        function = option(function)
    return function


@click.command(cls=Command, epilog=EPILOG)
@prune_options
@click.option("--unsafe-allow-remove-all", is_flag=True, help="Go on where there is no snapshot: all data is removed.")
@click.option("-n", "--dry-run", is_flag=True, help="Remove nothing, only say what would be done.")
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> Result:
    """Free what no snapshot needs.

    Needs the repository for itself. Whatever can't be read, and whatever is missing, stops it before anything is
    removed; it may be stopped at any time.
    """
    session = Session.of(ctx, "prune")
    options = engine_options(session, given)
    with session.locked(writes=not given["dry_run"], exclusive=True) as locked:
        run_prune(session, locked, options, dry_run=given["dry_run"], allow_empty=given["unsafe_allow_remove_all"])
    return session.result()


def engine_options(session: Session, given: dict[str, Any]) -> PruneOptions:
    """The engine's options from those of the command."""
    from lowtide_engine.prune_plan import PruneOptions

    if given["repack_uncompressed"] and session.settings.compression == "off":
        raise click.UsageError("--repack-uncompressed compresses: leave it, or --compression off, out")
    if given["repack_smaller_than"] is not None and given["repack_smaller_than"] > session.settings.pack_size:
        raise click.UsageError("--repack-smaller-than is above the size of packs (--pack-size)")
    limit: MaxUnused = given["max_unused"]
    return PruneOptions(
        max_unused_share=limit.share,
        max_unused_size=limit.size,
        max_repack_size=given["max_repack_size"],
        smaller_than=given["repack_smaller_than"] or 0,
        cacheable_only=given["repack_cacheable_only"],
        compress=given["repack_uncompressed"],
        pack_size=session.settings.pack_size,
    )


def run_prune(
    session: Session,
    locked: LockedRepository,
    options: PruneOptions,
    *,
    dry_run: bool,
    ignoring: Collection[str] = (),
    allow_empty: bool = False,
) -> None:
    """Prune, and say what was done."""
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.prune import prune

    try:
        pruned = prune(
            locked, options, session.output, stop, dry_run=dry_run, ignoring=ignoring, allow_empty=allow_empty
        )
    finally:
        session.output.stop_live()
    plan = pruned.plan
    content = {
        "dry_run": dry_run,
        "packs_kept": plan.kept_packs,
        "packs_removed": len(plan.remove),
        "packs_unindexed": len(plan.unindexed),
        "packs_repacked": len(plan.repack),
        "packs_missing": len(plan.vanished),
        "bytes_unindexed": sum(plan.unindexed.values()),
        "bytes_freed": plan.freed,
        "bytes_repacked": plan.repack_size,
        "bytes_written": pruned.written,
        "bytes_remaining": plan.remaining,
        "bytes_unused": plan.unused_after,
        "index_files_removed": len(plan.obsolete_indexes),
        "index_files_written": pruned.new_indexes,
        "blobs_used": plan.blobs,
    }
    if plan.idle:
        lines = [f"nothing to do: {plan.kept_packs} packs are kept"]
    else:
        would = "would be" if dry_run else "were"
        lines = [
            f"{len(plan.remove)} packs that nothing needs and {len(plan.unindexed)} in no index {would} removed",
            f"{len(plan.repack)} packs with {human_size(plan.repack_size)} {would} rid of what is unused",
            f"{len(plan.obsolete_indexes)} index files {would} replaced",
            f"{human_size(plan.freed)} {would} freed",
        ]
    lines.append(f"{human_size(plan.remaining)} remain, {human_size(plan.unused_after)} of them unused")
    session.output.summary(content, lines)
