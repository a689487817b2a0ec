"""`lowtide backup`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from lowtide_engine.cli.excludes import exclude_options, gather_patterns
from lowtide_engine.cli.options import Command
from lowtide_engine.cli.output import environment_host, human_duration, human_size
from lowtide_engine.cli.selecting import owner_options, taken
from lowtide_engine.cli.session import Session
from lowtide_engine.cli.streams import SOURCES, gather_stream, stream_options
from lowtide_engine.cli.targets import LISTS, gather_targets, target_options
from lowtide_engine.cli.values import GROUP_BY, SIZE, TAGS, TIME, refuse_reserved
from lowtide_engine.contract import Outcome, Result

if TYPE_CHECKING:
    from lowtide_engine.backup import BackupReport, BackupRequest
    from lowtide_engine.repository import LockedRepository

EPILOG = """Exit status is 0 if the snapshot is whole, 3 if some files could not be read (the snapshot is stored, and
tagged lowtide:partial), 1 if none was stored, 10 if there is no repository, 11 if it is locked, 12 if the password is
wrong, 130 if a signal stopped it."""


@click.command(cls=Command, epilog=EPILOG)
@click.argument("targets", nargs=-1, metavar="[FILE|FOLDER…]", type=click.Path(readable=False))
@target_options
@stream_options
@click.option("--tag", "tags", multiple=True, type=TAGS, metavar="TAG[,TAG]", help="Tag for the new snapshot.")
@click.option("-H", "--host", metavar="NAME", help="Host of the snapshot (default: $RESTIC_HOST, else this machine's).")
@owner_options
@exclude_options
@click.option(
    "--exclude-if-present",
    multiple=True,
    metavar="NAME[:HEADER]",
    help="Leave out what is in a folder with a file called so (that begins with HEADER).",
)
@click.option("--exclude-larger-than", type=SIZE, default="0", metavar="SIZE", help="Leave out larger files; like 10M.")
@click.option("--exclude-caches", is_flag=True, help="Leave out what is in folders with a CACHEDIR.TAG.")
@click.option("-x", "--one-file-system", is_flag=True, help="Do not enter other file systems.")
@click.option(
    "--parent", default="", metavar="ID", help="Compare with this snapshot (default: the newest of its group)."
)
@click.option("-f", "--force", is_flag=True, help="Read every file, without a parent.")
@click.option(
    "-g",
    "--group-by",
    type=GROUP_BY,
    default="host,paths",
    show_default=True,
    metavar="KEYS",
    help="Which snapshots can be the parent: same host, paths, tags.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Write nothing, only say what would be done.")
@click.option("--time", "moment", type=TIME, metavar="TIME", help="Time of the snapshot (default: now).")
@click.option("--skip-if-unchanged", is_flag=True, help="Write no snapshot if it would equal the parent.")
@click.option(
    "--refuse-empty", is_flag=True, help="Fail if there is no file at all to back up, as when a volume is not there."
)
@click.option("--ignore-inode", is_flag=True, help="A file is unchanged whatever its inode and ctime.")
@click.option("--ignore-ctime", is_flag=True, help="A file is unchanged whatever its ctime.")
@click.option("--with-atime", is_flag=True, help="Store when files were last read.")
@click.option("--no-scan", is_flag=True, help="Changes nothing: no file is looked at twice to know how much there is.")
@click.option(
    "--numeric-owner",
    is_flag=True,
    help="Store no user and group names (always so in a mover, whose names are not the workload's).",
)
@click.option(
    "--read-concurrency",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Read so many files at once (default: $RESTIC_READ_CONCURRENCY, else 2).",
)
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> Result:
    """Store files and folders, or a stream, as a new snapshot.

    What is stored already is not stored again. Tags that start with lowtide: are set by --cluster, --namespace,
    --policy, --run, --claim and --stream only.
    """  # fmt: skip
    session = Session.of(ctx, "backup")
    request = _request(session, given)
    started = time.monotonic()
    from lowtide_engine.backup import back_up
    from lowtide_engine.cli.signals import stop

    def store(locked: LockedRepository) -> BackupReport:
        return back_up(locked, request, session.output, stop)

    try:
        if request.stream is None:
            report = session.under_lock(store, writes=not request.dry_run)
        else:
            # A stream can't be begun again.
            with session.locked(writes=not request.dry_run) as locked:
                report = store(locked)
    finally:
        session.output.stop_live()
    _say(session, report, time.monotonic() - started, dry_run=request.dry_run)
    return _result(session, report)


def _request(session: Session, given: dict[str, Any]) -> BackupRequest:
    if not any(given[name] for name in ("targets", *LISTS, *SOURCES)):
        raise click.UsageError("say what is to be backed up: files or folders, or lists of them by --files-from")
    tags = refuse_reserved([tag for tags in given["tags"] for tag in tags if tag])
    from lowtide_engine.backup import BackupRequest
    from lowtide_engine.repository.holder import HOLDER_VARIABLE

    environment = session.settings.environment
    moment: datetime | None = given["moment"]
    excludes = gather_patterns(given["excludes"], given["exclude_files"], environment)
    iexcludes = gather_patterns(given["iexcludes"], given["iexclude_files"], environment)
    stream = gather_stream(given, environment)
    targets = (
        [stream.path]
        if stream is not None
        else gather_targets(
            given["targets"],
            given["files_from"],
            given["files_from_verbatim"],
            given["files_from_raw"],
            session.output.warn,
        )
    )
    return BackupRequest(
        targets=targets,
        stream=stream.source if stream is not None else None,
        host=given["host"] or environment_host(environment),
        time=moment,
        tags=tags,
        owner=taken(given),
        parent=given["parent"],
        group_by=given["group_by"],
        # As in restic: what comes from standard input is compared with nothing.
        force=given["force"] or given["stdin"],
        excludes=[os.fsencode(pattern) for pattern in excludes],
        iexcludes=[os.fsencode(pattern) for pattern in iexcludes],
        exclude_if_present=[_named_and_headed(text) for text in given["exclude_if_present"]],
        exclude_caches=given["exclude_caches"],
        exclude_larger_than=given["exclude_larger_than"],
        one_file_system=given["one_file_system"],
        ignore_inode=given["ignore_inode"],
        ignore_ctime=given["ignore_ctime"],
        with_atime=given["with_atime"],
        omit_names=given["numeric_owner"] or bool(environment.get(HOLDER_VARIABLE)),
        compression=session.settings.compression,
        pack_size=session.settings.pack_size,
        readers=given["read_concurrency"] or _readers(environment.get("RESTIC_READ_CONCURRENCY", "")),
        uploads=session.uploads(),
        verify=not session.settings.no_extra_verify,
        dry_run=given["dry_run"],
        verbose=session.settings.verbose >= 2,
        skip_if_unchanged=given["skip_if_unchanged"],
        refuse_empty=given["refuse_empty"],
    )


def _named_and_headed(text: str) -> tuple[bytes, bytes]:
    name, _, header = text.partition(":")
    if not name or "/" in name:
        raise click.BadParameter(f"{text!r} is no file name, or one and a header", param_hint="'--exclude-if-present'")
    return os.fsencode(name), os.fsencode(header)


def _readers(variable: str) -> int:
    if variable and not (variable.isdigit() and 1 <= int(variable) <= 64):
        raise click.UsageError(f"RESTIC_READ_CONCURRENCY is {variable!r}; it must be a number from 1 to 64")
    return int(variable or 2)


def _say(session: Session, report: BackupReport, seconds: float, *, dry_run: bool) -> None:
    counts: dict[str, Any] = dict(report.summary)
    content = {**counts, "total_duration": round(seconds, 6)}
    if report.snapshot is not None:
        content["snapshot_id"] = report.snapshot.id
    if dry_run:
        content["dry_run"] = True
    session.output.summary(content, _lines(report, counts, seconds, dry_run=dry_run))
    if report.errors:
        session.output.notice(f"Warning: {report.errors} files or folders could not be read; the snapshot lacks them")


def _lines(report: BackupReport, counts: dict[str, Any], seconds: float, *, dry_run: bool) -> Sequence[str]:
    would = "Would add" if dry_run else "Added"
    size, stored = human_size(counts["data_added"]), human_size(counts["data_added_packed"])
    lines = [""]
    for what in ("files", "dirs"):
        new, changed, same = (counts[f"{what}_{how}"] for how in ("new", "changed", "unmodified"))
        lines.append(f"{what.capitalize() + ':':<6} {new:11} new, {changed:5} changed, {same:5} unmodified")
    total, read = counts["total_files_processed"], human_size(counts["total_bytes_processed"])
    lines += [f"{would} to the repository: {size} ({stored} stored)", ""]
    lines.append(f"processed {total} files, {read} in {human_duration(seconds)}")
    if report.snapshot is not None:
        lines.append(f"snapshot {report.snapshot.short_id} saved")
    elif not dry_run:
        lines.append("nothing changed, no snapshot was saved")
    return lines


def _result(session: Session, report: BackupReport) -> Result:
    counts: dict[str, Any] = dict(report.summary)
    outcome, reason, message = Outcome.OK, "Completed", ""
    if report.errors:
        outcome, reason = Outcome.PARTIAL, "SourceIncomplete"
        message = f"{report.errors} files or folders could not be read, and are not in the snapshot"
    elif report.snapshot is None and report.unchanged:
        reason = "Unchanged"
    return session.result(
        reason,
        message,
        outcome=outcome,
        snapshot_ids=[report.snapshot.id] if report.snapshot is not None else [],
        files=counts["total_files_processed"],
        size=counts["total_bytes_processed"],
        added=counts["data_added_packed"],
    )
