"""`lowtide migrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Outcome, Result

if TYPE_CHECKING:
    from lowtide_engine.repository import LockedRepository

UPGRADE = "upgrade_repo_v2"
MIGRATIONS = {UPGRADE: "make it a repository of version 2, which compresses"}


@click.command(cls=Command)
@click.argument("names", nargs=-1, type=click.Choice(list(MIGRATIONS)), metavar="[NAME…]")
@click.pass_context
def command(ctx: click.Context, /, names: tuple[str, ...]) -> Result:
    """Bring the repository to a newer form of the format; without a name, list what can be done.

    upgrade_repo_v2 makes a repository of version 1 one of version 2, after a check. What is stored stays as it is until
    `lowtide prune --repack-uncompressed`.
    """
    session = Session.of(ctx, "migrate").uncached()
    with session.locked(writes=bool(names), exclusive=bool(names)) as locked:
        version = locked.repository.config.version
        if not names:
            possible = MIGRATIONS if version < 2 else {}
            for name, text in possible.items():
                session.output.line(f"{name}: {text}")
            if not possible:
                session.output.line(f"there is nothing to do: the repository has version {version}")
            session.output.message("migrations", {"available": list(possible)})
            return session.result()
        if version >= 2:
            session.output.notice(f"the repository has version {version} already")
            return session.result("Unchanged")
        problems = _problems(session, locked)
        if problems:
            message = f"{problems} problems were found, so nothing was changed"
            session.output.warn(message)
            return session.result("RepositoryDamaged", message, outcome=Outcome.FAILED)
        locked.upgrade()
    session.output.summary({"applied": [UPGRADE]}, ["the repository has version 2 now"])
    return session.result()


def _problems(session: Session, locked: LockedRepository) -> int:
    from lowtide_engine.check import check
    from lowtide_engine.cli.signals import stop

    try:
        return check(locked, session.output, stop).problems
    finally:
        session.output.stop_live()
