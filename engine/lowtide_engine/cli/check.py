"""`lowtide check`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.selecting import choose, filter_options, snapshot_filter
from lowtide_engine.cli.session import Session
from lowtide_engine.cli.values import Value, parse_size
from lowtide_engine.contract import Outcome, Result
from lowtide_engine.subset import Subset

if TYPE_CHECKING:
    from lowtide_engine.repository import Snapshot, SnapshotFilter

EPILOG = """Exit status is 0 if no damage was found, 1 if there is some, 10 if there is no repository, 11 if it is
locked, 12 if the password is wrong, 130 if a signal stopped it."""


@click.command(cls=Command, epilog=EPILOG)
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.option("--read-data", is_flag=True, help="Read and verify every byte.")
@click.option(
    "--read-data-subset",
    type=Value("subset", lambda text: parse_subset(text)),
    metavar="N/T|X%|SIZE",
    help="Read and verify a part: the Nth of T parts, a share, or an amount of the packs.",
)
@click.option(
    "--with-cache", is_flag=True, help="Take from the cache what is in it: quicker, and blind for damage to it."
)
@click.option("--check-unused", is_flag=True, help="Blobs that no snapshot uses are a failure.")
@filter_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    ids: tuple[str, ...],
    read_data: bool,
    read_data_subset: Subset | None,
    with_cache: bool,
    check_unused: bool,
    **given: Any,
) -> Result:
    """Look for damage in the repository.

    Without options: every snapshot, index file and tree is read, every pack must be there in the right size, and every
    blob that a tree names must be in the index. With ids or filters only the trees of these snapshots are read, and
    with --read-data only packs that hold what they need.
    """  # fmt: skip
    session = Session.of(ctx, "check")
    if not with_cache:
        session = session.uncached()
    if read_data and read_data_subset is not None:
        raise click.UsageError("--read-data reads everything: leave --read-data-subset out, or --read-data")
    from lowtide_engine.check import check
    from lowtide_engine.cli.signals import stop

    if (ids or any(given.values())) and check_unused:
        raise click.UsageError("--check-unused is about all snapshots: leave ids and filters, or it, out")
    only = snapshot_filter(given["hosts"], given["tags"], given["paths"])
    chosen = (lambda found: _chosen(session, found, ids, only)) if ids or any(given.values()) else None
    part = Subset() if read_data else read_data_subset
    try:
        with session.locked(exclusive=True) as locked:
            report = check(locked, session.output, stop, read_data=part, check_unused=check_unused, choose=chosen)
    finally:
        session.output.stop_live()
    content = {
        "num_errors": report.problems,
        "broken_packs": report.broken_packs or None,
        "suggest_repair_index": report.suggest_repair_index,
        "suggest_prune": report.suggest_prune,
    }
    text = f"{report.snapshots} snapshots and {report.packs} packs were checked, "
    text += f"{report.problems} problems were found" if report.problems else "no damage was found"
    session.output.summary(content, [text])
    if not report.problems:
        return session.result()
    session.output.notice("The repository is damaged: what is named above. Keep it as it is until you know why.")
    return session.result("RepositoryDamaged", f"{report.problems} problems were found", outcome=Outcome.FAILED)


def _chosen(session: Session, snapshots: list[Snapshot], ids: tuple[str, ...], only: SnapshotFilter) -> list[Snapshot]:
    """The snapshots that are to be checked; none at all is a failure, not a repository without damage."""
    from lowtide_engine.errors import SnapshotMissing

    found = choose(session, snapshots, ids, only)
    if not found:
        raise SnapshotMissing("no snapshot matches, so nothing was checked")
    return found


def parse_subset(text: str) -> Subset:
    """What `2/5`, `2.5%` or `10G` means. Raises ValueError."""
    if match := re.fullmatch(r"(\d+)/(\d+)", text):
        part, parts = int(match[1]), int(match[2])
        if not 1 <= part <= parts <= 256:
            raise ValueError(f"{text!r} is no part: write N/T with N from 1 to T, and T at most 256")
        return Subset(part=part, parts=parts)
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)%", text):
        share = float(match[1])
        if not 0 < share <= 100:
            raise ValueError(f"{text!r} is no share: write a number above 0 and up to 100, and %")
        return Subset(fraction=share / 100)
    size = parse_size(text)
    if size <= 0:
        raise ValueError(f"{text!r} is nothing: write how much is to be read")
    return Subset(size=size)
