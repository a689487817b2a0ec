"""`lowtide preflight`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.selecting import filter_options, snapshot_filter
from lowtide_engine.cli.session import Session
from lowtide_engine.cli.values import TIME
from lowtide_engine.contract import Result

if TYPE_CHECKING:
    from lowtide_engine.repository import Repository, Snapshot, SnapshotFilter
    from lowtide_engine.storage import Storage


@click.command(cls=Command)
@click.option("--init", "create", is_flag=True, help="Create the repository if nothing of one is there.")
@click.option("--snapshot", "snapshots", multiple=True, metavar="ID", help="A snapshot that must exist.")
@filter_options
@click.option(
    "--as-of",
    type=TIME,
    metavar="TIME",
    help="With --host, --tag or --path, or alone: the newest good snapshot not newer than this must exist.",
)
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> Result:
    """Prove that a backup into the repository could start now.

    Opens the repository, takes a lock and reads snapshots and index as a backup does, and gives the lock back. What
    would fail a backup fails here, before any workload is stopped. The answer holds the repository's id, and the ids of
    the snapshots that were asked for.
    """  # fmt: skip
    session = Session.of(ctx, "preflight")
    moment: datetime | None = given["as_of"]
    selects = bool(given["hosts"] or given["tags"] or given["paths"] or moment)
    only = snapshot_filter(given["hosts"], given["tags"], given["paths"])

    def prove() -> tuple[list[str], str]:
        with session.repository() as repository:
            found = _prove(session, repository, given["snapshots"], only if selects else None, moment)
            return found, repository.location

    from lowtide_engine.errors import RepositoryMissing

    created = False
    try:
        found, location = prove()
    except RepositoryMissing:
        if not given["create"] or session.settings.expect_repository:
            raise
        created = _create_if_missing(session)
        found, location = prove()
    content = {"repository_id": session.repository_id, "created": created, "snapshot_ids": found}
    session.output.message("preflight", content)
    session.output.line(f"repository {session.repository_id[:10]} in {location} can be opened, locked and written")
    return session.result(snapshot_ids=found)


def _create_if_missing(session: Session) -> bool:
    from lowtide_engine.errors import FileMissing, RepositoryExists
    from lowtide_engine.repository import init_repository
    from lowtide_engine.storage import CONFIG, FileKind

    storage = session.storage()
    try:
        storage.stat(CONFIG)
    except FileMissing:
        pass
    else:
        storage.close()
        return False
    if next(iter(storage.list(FileKind.KEY)), None) is not None:
        _await_config(session, storage)
        storage.close()
        return False
    password = session.password()
    try:
        with init_repository(storage, password, clock=session.clock, environment=session.settings.environment):
            return True
    except RepositoryExists:
        # Another preflight was the one to create it.
        return False


def _await_config(session: Session, storage: Storage) -> None:
    """Wait a little for the config beside keys: another preflight may be storing it right now. Where none comes it
    was lost, and opening the repository says so.
    """
    from lowtide_engine.errors import FileMissing
    from lowtide_engine.storage import CONFIG

    for _ in range(20):
        session.clock.sleep(0.5)
        try:
            storage.stat(CONFIG)
        except FileMissing:
            continue
        return


def _prove(
    session: Session, repository: Repository, ids: tuple[str, ...], only: SnapshotFilter | None, moment: datetime | None
) -> list[str]:
    from lowtide_engine.reporting import NOT_BEGUN
    from lowtide_engine.standing import snapshots_for

    # It protects nothing, and is given back before it could be in anybody's way.
    with session.lock(repository, writes=True, deferred=True) as locked:
        locked.ensure(confirmed=False)
        snapshots = snapshots_for(locked, ids if only is None else ("latest",), session.output.warn)
        found = _find_all(snapshots, ids, only, moment)
        try:
            locked.load_index(lambda: session.output.progress(NOT_BEGUN))
        finally:
            session.output.stop_live()
        return found


def _find_all(
    snapshots: Sequence[Snapshot], ids: tuple[str, ...], only: SnapshotFilter | None, moment: datetime | None
) -> list[str]:
    from lowtide_engine.errors import SnapshotMissing
    from lowtide_engine.repository import Instant, find
    from lowtide_engine.standing import VERDICT_TAG, standing

    found = [find(snapshots, wanted)[0].id for wanted in ids]
    if only is not None:
        latest = Instant.of(moment) if moment is not None else None
        good = [
            snapshot
            for snapshot in snapshots
            if only.matches(snapshot)
            and (latest is None or snapshot.time <= latest)
            and VERDICT_TAG not in snapshot.tags
            and not standing(snapshot, snapshots).flaw
        ]
        if not good:
            until = f", not newer than {moment}" if moment is not None else ""
            raise SnapshotMissing(f"no good snapshot matches ({only}{until})")
        found.append(good[-1].id)
    return found
