"""`lowtide forget`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.output import print_json, table
from lowtide_engine.cli.prune import engine_options, prune_options, run_prune
from lowtide_engine.cli.selecting import owner_options, snapshot_filter, taken
from lowtide_engine.cli.session import Session
from lowtide_engine.cli.snapshots import document
from lowtide_engine.cli.values import GROUP_BY, TAGS, Value
from lowtide_engine.contract import Result

if TYPE_CHECKING:
    from lowtide_engine.expiry import Expiry, Group
    from lowtide_engine.repository import LockedRepository, Snapshot, SnapshotFilter
    from lowtide_engine.retention import Rules

_COUNTS = {"last": "-l", "hourly": "-H", "daily": "-d", "weekly": "-w", "monthly": "-m", "yearly": "-y"}

EPILOG = """Snapshots that Lowtide made in one run are kept or removed together. What is partial, or belongs to a run
without a verdict, never counts: it stays while it is younger than a day or nothing newer that is whole is kept."""


def _parse_count(text: str) -> int:
    if text == "unlimited":
        return -1
    if not re.fullmatch(r"-1|\d{1,9}", text):
        raise ValueError(f"{text!r} is no number of snapshots; write one, or `unlimited`")
    return int(text)


def _parse_span(text: str) -> Any:
    from lowtide_engine.retention import Span

    return Span.parse(text)


def keep_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--keep-last … --keep-within-yearly and --keep-tag, as restic has them."""
    span = Value("span", _parse_span)
    options = [
        click.option(
            short, f"--keep-{name}", type=Value("number", _parse_count), metavar="N",
            help="Keep the last N." if name == "last" else f"Keep the newest of each of the last N {_periods(name)}.",
        )
        for name, short in _COUNTS.items()
    ]  # fmt: skip
    options.append(
        click.option("--keep-within", type=span, metavar="SPAN",
                     help="Keep what is at most so much older than the newest, like 1y5m7d2h.")
    )  # fmt: skip
    options += [
        click.option(f"--keep-within-{name}", type=span, metavar="SPAN",
                     help=f"Keep the newest of each of the {_periods(name)} in that time before the newest.")
        for name in list(_COUNTS)[1:]
    ]  # fmt: skip
    options.append(
        click.option("--keep-tag", type=TAGS, multiple=True, metavar="TAG[,TAG]",
                     help="Keep those that have all these tags.")
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def _periods(name: str) -> str:
    return "days" if name == "daily" else f"{name.removesuffix('ly')}s"


@click.command(cls=Command, epilog=EPILOG)
@click.argument("ids", nargs=-1, metavar="[ID…]")
@keep_options
@click.option("--host", "hosts", multiple=True, metavar="HOST",
              help="Only snapshots of this host; several: of any of them (default: $RESTIC_HOST; '' for any).",
              )  # fmt: skip
@click.option("--tag", "tags", multiple=True, type=TAGS, metavar="TAG[,TAG]",
              help="Only snapshots with all these tags, '' without any; several: with any of the lists.")  # fmt: skip
@click.option("--path", "paths", multiple=True, metavar="PATH",
              help="Only snapshots with this path; several: with all of them.")  # fmt: skip
@owner_options
@click.option("-g", "--group-by", type=GROUP_BY, default="host,paths", metavar="KEYS",
              show_default=True, help="The rules apply to each group of equal host, paths, tags; '' for one group. "
              "Runs of several policies are never one group.",
              )  # fmt: skip
@click.option("--allow-partial", is_flag=True, help="Count partial snapshots as if they were whole.")
@click.option("--unsafe-allow-remove-all", is_flag=True, help="Without rules, remove all that the filters select.")
@click.option("--prune", is_flag=True, help="Free what the removed snapshots used, if some were; see `lowtide prune`.")
@prune_options
@click.option("-c", "--compact", is_flag=True, help="One line a snapshot, without paths.")
@click.option("-n", "--dry-run", is_flag=True, help="Remove nothing, only say what would be removed.")
@click.pass_context
def command(ctx: click.Context, /, ids: tuple[str, ...], **given: Any) -> Result:
    """Remove snapshots by their ids, those of one run, or those that no --keep rule keeps.

    An id that is gone already is no failure. The data is freed by a prune. Without an id, --run or a rule nothing is
    removed.
    """
    session = Session.of(ctx, "forget")
    owner = taken(given)
    only = snapshot_filter(given["hosts"], given["tags"], given["paths"], owner)
    rules = _rules(given)
    pruning = engine_options(session, given)
    filtered = any((given["hosts"], given["tags"], given["paths"], *owner.values()))
    if ids and (rules or filtered):
        raise click.UsageError("give ids, or rules and filters, not both: ids are removed whatever the rules say")
    _refuse_unclear(ids, rules, only, run=owner["run"], remove_all=given["unsafe_allow_remove_all"])
    with session.locked(writes=not given["dry_run"], exclusive=True) as locked:
        if rules:
            removed = _by_rules(session, locked, rules, only, given)
        else:
            removed = _by_name(session, locked, ids, None if ids else only, dry_run=given["dry_run"])
        if given["prune"] and removed:
            run_prune(
                session,
                locked,
                pruning,
                dry_run=given["dry_run"],
                ignoring=[snapshot.id for snapshot in removed] if given["dry_run"] else (),
                allow_empty=given["unsafe_allow_remove_all"],
            )
    return session.result(snapshot_ids=[snapshot.id for snapshot in removed][:32])


def _refuse_unclear(ids: Sequence[str], rules: Rules, only: SnapshotFilter, *, run: str, remove_all: bool) -> None:
    if not ids and not rules and not run:
        if not remove_all:
            raise click.UsageError("say which snapshots are to be removed: by ids, by --run, or by a --keep rule")
        if not (only.hosts or only.tags or only.paths):
            raise click.UsageError("--unsafe-allow-remove-all needs a filter: --host, --tag, --path or an owner")
    for wanted in ids:
        if not re.fullmatch(r"[0-9a-fA-F]{4,64}", wanted):
            raise click.BadParameter(f"{wanted!r} is no id, nor four or more digits of one", param_hint="'ID'")


def _rules(given: dict[str, Any]) -> Rules:
    from lowtide_engine.retention import Rules, Span

    spans = ("within", *(f"within_{name}" for name in list(_COUNTS)[1:]))
    values: dict[str, Any] = {name: given[f"keep_{name}"] or 0 for name in _COUNTS}
    values |= {name: given[f"keep_{name}"] or Span() for name in spans}
    return Rules(**values, tags=given["keep_tag"])


def _by_name(
    session: Session, locked: LockedRepository, ids: Sequence[str], only: SnapshotFilter | None, *, dry_run: bool
) -> list[Snapshot]:
    from lowtide_engine.forget import forget

    forgotten = forget(locked, ids, only, session.output, dry_run=dry_run)
    would = "would remove" if dry_run else "removed"
    for snapshot in forgotten:
        session.output.line(f"{would} snapshot {snapshot.short_id} of {snapshot.time} {' '.join(snapshot.paths)}")
    if session.output.json:
        print_json([{"id": snapshot.id, "short_id": snapshot.short_id} for snapshot in forgotten])
    return forgotten


def _by_rules(
    session: Session, locked: LockedRepository, rules: Rules, only: SnapshotFilter, given: dict[str, Any]
) -> list[Snapshot]:
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.forget import forget_by_rules

    expiry = forget_by_rules(
        locked,
        rules,
        session.output,
        stop,
        only=only,
        by=given["group_by"],
        allow_partial=given["allow_partial"],
        dry_run=given["dry_run"],
    )
    if session.output.json:
        print_json([_group_document(group) for group in expiry.groups])
    else:
        would = "would be removed" if given["dry_run"] else "removed"
        _print_groups(session, expiry, would=would, compact=given["compact"])
    return expiry.removed


def _group_document(group: Group) -> dict[str, Any]:
    """A group as restic's --json shows it, and whose runs it has."""
    return {
        **({"owner": list(group.key.owner)} if group.key.owner else {}),
        "tags": list(group.key.tags) or None,
        "host": group.key.host,
        "paths": list(group.key.paths) or None,
        "keep": [document(snapshot) for snapshot in group.snapshots(kept=True)] or None,
        "remove": [document(snapshot) for snapshot in group.snapshots(kept=False)] or None,
        "reasons": [
            {"snapshot": document(snapshot), "matches": decision.reasons}
            for decision in group.decisions
            if decision.kept
            for snapshot in decision.item.snapshots
        ]
        or None,
    }


def _print_groups(session: Session, expiry: Expiry, *, would: str, compact: bool) -> None:
    headings = ["ID", "Time", *([] if compact else ["Paths"]), "Kept because"]
    for group in expiry.groups:
        session.output.line(f"{group.key}:")
        rows = [
            [snapshot.short_id, f"{snapshot.time.datetime().astimezone():%Y-%m-%d %H:%M:%S}",
             *([] if compact else ["\n".join(snapshot.paths)]),
             (", " if compact else "\n").join(decision.reasons) if decision.kept else would]
            for decision in group.decisions
            for snapshot in decision.item.snapshots
        ]  # fmt: skip
        kept = len(group.snapshots(kept=True))
        footer = f"{kept} snapshots kept, {len(rows) - kept} {would}"
        session.output.line(table(headings, rows, footer))
    if not expiry.groups:
        session.output.line("no snapshots are selected")
