"""`lowtide restore`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from lowtide_engine.cli.excludes import encoded_patterns, exclude_options, include_options
from lowtide_engine.cli.options import Command
from lowtide_engine.cli.output import human_duration, human_size
from lowtide_engine.cli.selecting import filter_options, snapshot_filter
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Outcome, Result

if TYPE_CHECKING:
    from lowtide_engine.restore import RestoreReport, RestoreRequest

EPILOG = """Exit status is 0 if everything was restored, 1 if nothing was, or some files could not be or are not as they
were, 10 if there is no repository, 11 if it is locked, 12 if the password is wrong, 130 if a signal stopped it."""

_OF_FOLDERS = (
    *("includes", "iincludes", "include_files", "iinclude_files"),
    *("excludes", "iexcludes", "exclude_files", "iexclude_files"),
    *("ownership_by_name", "root_metadata", "no_owner"),
)


@click.command(cls=Command, epilog=EPILOG)
@click.argument("snapshot", metavar="SNAPSHOT[:PATH]")
@click.option("-t", "--target", type=click.Path(), metavar="FOLDER", help="Where the files go.")
@click.option(
    "--write-device",
    metavar="DEVICE",
    help="Write the one file that SNAPSHOT:FILE names over a block device, in the place of --target; with --delete, "
    "what lies behind it becomes zeros.",
)
@include_options
@exclude_options
@filter_options
@click.option(
    "--overwrite",
    type=click.Choice(["always", "if-changed", "if-newer", "never"]),
    default="always",
    show_default=True,
    help="What to do with files that are there.",
)
@click.option(
    "--delete", is_flag=True, help="Remove from the target what the snapshot has not, after all data is written."
)
@click.option(
    "--allow-partial",
    is_flag=True,
    help="Let --delete work from a partial snapshot, or from one whose run was never completed.",
)
@click.option("--verify", is_flag=True, help="Read what was written, and compare it.")
@click.option("--sparse/--no-sparse", default=True, help="Write runs of zeros as holes; on unless told otherwise.")
@click.option("-n", "--dry-run", is_flag=True, help="Write nothing, only say what would be done.")
@click.option(
    "--ownership-by-name",
    is_flag=True,
    help="Give files to the users and groups of the same name, where there are such.",
)
@click.option("--root-metadata", is_flag=True, help="Give the target itself the rights, owner and time of :PATH.")
@click.option("--no-owner", is_flag=True, help="Leave all files to who restores them.")
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> Result:
    """Write the files of a snapshot into a folder, or one of them onto a block device.

    SNAPSHOT is an id, its beginning, or latest (never the verdict of a run); with :PATH only that folder of it, as
    the root. No match is a failure.
    """  # fmt: skip
    session = Session.of(ctx, "restore")
    request = _request(session, given)
    started = time.monotonic()
    from lowtide_engine.cli.signals import stop
    from lowtide_engine.restore import restore

    try:
        with session.locked() as locked:
            report = restore(locked, request, session.output, stop)
    finally:
        session.output.stop_live()
    return _finish(session, report, time.monotonic() - started, request)


def _request(session: Session, given: dict[str, Any]) -> RestoreRequest:
    from lowtide_engine.restore import RestoreRequest

    device = given["write_device"]
    if (device is None) == (given["target"] is None):
        raise click.UsageError("say where it goes: either --target, a folder, or --write-device, a block device")
    if device is not None and (given["overwrite"] != "always" or any(given[name] for name in _OF_FOLDERS)):
        raise click.UsageError(
            "--write-device was given: patterns, --overwrite and what is said of owners are for files in a folder"
        )
    return RestoreRequest(
        snapshot=given["snapshot"],
        target=os.fsencode(given["target"] if device is None else device),
        device=device is not None,
        only=snapshot_filter(given["hosts"], given["tags"], given["paths"]),
        **encoded_patterns(given, session.settings.environment),
        overwrite=given["overwrite"],
        delete=given["delete"],
        allow_partial=given["allow_partial"],
        sparse=given["sparse"],
        owner=not given["no_owner"],
        numeric_owner=not given["ownership_by_name"],
        root_metadata=given["root_metadata"],
        verify=given["verify"],
        dry_run=given["dry_run"],
        verbose=session.settings.verbose >= 2,
    )


def _finish(session: Session, report: RestoreReport, seconds: float, request: RestoreRequest) -> Result:
    counts = report.summary
    files = counts["files_restored"]
    size = counts["bytes_restored"]
    content = {
        "seconds_elapsed": int(seconds),
        "total_files": files + counts["files_skipped"],
        "files_restored": files,
        "files_skipped": counts["files_skipped"],
        "files_deleted": counts["files_deleted"],
        "total_bytes": size + counts["bytes_skipped"],
        "bytes_restored": size,
        "bytes_skipped": counts["bytes_skipped"],
    }
    would = "Would restore" if request.dry_run else "Restored"
    text = f"{would} {files} files ({human_size(size)}) of snapshot {report.snapshot.short_id}"
    text += f", {counts['files_skipped']} were there already" if counts["files_skipped"] else ""
    text += f", {counts['files_deleted']} removed" if counts["files_deleted"] else ""
    session.output.summary(content, [f"{text} in {human_duration(seconds)}"])
    outcome, reason, message = Outcome.OK, "Completed", ""
    if report.errors > report.shortfalls:
        outcome, reason = Outcome.FAILED, "RestoreIncomplete"
        message = f"{report.errors - report.shortfalls} files or folders could not be restored"
    elif report.errors:
        outcome, reason = Outcome.PARTIAL, "MetadataIncomplete"
        message = f"all data is there, but owners, modes, times or attributes could not be set {report.errors} times"
    if report.errors:
        session.output.notice(f"There were {report.errors} errors: what is named above is not as it was")
    return session.result(reason, message, outcome=outcome, snapshot_ids=[report.snapshot.id], files=files, size=size)
