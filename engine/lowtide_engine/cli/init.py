"""`lowtide init`."""

from __future__ import annotations

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Result


@click.command(cls=Command)
@click.option(
    "--repository-version",
    type=click.Choice(["1", "2", "latest", "stable"]),
    default="2",
    show_default=True,
    help="Version of the format; 1 has no compression.",
)
@click.pass_context
def command(ctx: click.Context, repository_version: str) -> Result:
    """Create a repository. Fails where there is one, or remains of one."""  # fmt: skip
    session = Session.of(ctx, "init")
    from lowtide_engine.repository import init_repository

    storage = session.storage()
    password = session.password(prompt="enter password for new repository: ")
    with init_repository(
        storage,
        password,
        clock=session.clock,
        version=1 if repository_version == "1" else 2,
        environment=session.settings.environment,
    ) as repository:
        session.repository_id = repository.id
        session.output.message("initialized", {"id": repository.id, "repository": repository.location})
        session.output.line(f"created repository {repository.id[:10]} in {repository.location}")
        session.output.line()
        session.output.line(
            "Whoever has the password has the data, and without it the data is lost: keep it elsewhere too."
        )
    return session.result()
