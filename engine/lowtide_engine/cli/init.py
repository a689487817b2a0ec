"""`lowtide init`."""

from __future__ import annotations

from typing import Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.session import Session
from lowtide_engine.cli.source import source_options, source_session
from lowtide_engine.contract import Result


@click.command(cls=Command)
@click.option(
    "--repository-version",
    type=click.Choice(["1", "2", "latest", "stable"]),
    default="2",
    show_default=True,
    help="Version of the format; 1 has no compression.",
)
@click.option(
    "--copy-chunker-params",
    is_flag=True,
    help="Cut files as the repository does that --from-repo names, so that a copy stores nothing twice.",
)
@source_options
@click.pass_context
def command(ctx: click.Context, /, repository_version: str, copy_chunker_params: bool, **given: Any) -> Result:
    """Create a repository. Fails where there is one, or remains of one."""  # fmt: skip
    session = Session.of(ctx, "init")
    named = any(value for name, value in given.items() if name.startswith("from_"))
    if named and not copy_chunker_params:
        raise click.UsageError("the --from options are for --copy-chunker-params")
    polynomial = _polynomial_of(source_session(session, given)) if copy_chunker_params else None
    from lowtide_engine.repository import init_repository

    storage = session.storage()
    password = session.password(prompt="enter password for new repository: ")
    with init_repository(
        storage,
        password,
        clock=session.clock,
        version=1 if repository_version == "1" else 2,
        polynomial=polynomial,
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


def _polynomial_of(source: Session) -> int:
    from lowtide_engine.errors import RepositoryUnsupported

    with source.repository() as repository:
        if repository.config.foreign_chunker:
            raise RepositoryUnsupported(f"{repository.location} cuts files in a way that only rustic knows")
        return repository.config.chunker_polynomial
