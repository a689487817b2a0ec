"""The options that name a second repository, to copy from: restic's --from-…, and their environment variables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click

from lowtide_engine.cli.session import Session

_F = TypeVar("_F", bound=Callable[..., Any])
_OPTIONS = {
    "repo": ("REPOSITORY", "PLACE", "Where the source is"),
    "repository-file": ("REPOSITORY_FILE", "FILE", "File that says where the source is"),
    "password-file": ("PASSWORD_FILE", "FILE", "File with the source's password"),
    "password-command": ("PASSWORD_COMMAND", "COMMAND", "Command that prints the source's password"),
    "key-hint": ("KEY_HINT", "ID", "Key of the source to try first"),
}
_MEANT_FOR_TARGET = (
    "RESTIC_REPOSITORY",
    "RESTIC_REPOSITORY_FILE",
    "RESTIC_PASSWORD",
    "RESTIC_PASSWORD_FILE",
    "RESTIC_PASSWORD_COMMAND",
    "RESTIC_KEY_HINT",
)


def source_options(function: _F) -> _F:
    """--from-repo, --from-repository-file, --from-password-file, --from-password-command, --from-key-hint,
    --from-insecure-no-password.
    """
    function = click.option("--from-insecure-no-password", is_flag=True, help="The source's password is empty.")(
        function
    )
    for name, (variable, metavar, help_text) in reversed(_OPTIONS.items()):
        function = click.option(
            f"--from-{name}", default="", metavar=metavar, help=f"{help_text} (default: $RESTIC_FROM_{variable})."
        )(function)
    return function


def source_session(session: Session, given: dict[str, Any]) -> Session:
    """A session on the source; the storage's credentials and all else are as for the target. UsageError where no
    source is named, or twice.
    """
    environment = session.settings.environment
    values = {
        name: given[f"from_{name.replace('-', '_')}"] or environment.get(f"RESTIC_FROM_{variable}", "")
        for name, (variable, _, _) in _OPTIONS.items()
    }
    if bool(values["repo"]) == bool(values["repository-file"]):
        raise click.UsageError("name the source: by --from-repo, or by --from-repository-file")
    own = {name: value for name, value in environment.items() if name not in _MEANT_FOR_TARGET}
    if environment.get("RESTIC_FROM_PASSWORD"):
        own["RESTIC_PASSWORD"] = environment["RESTIC_FROM_PASSWORD"]
    settings = replace(
        session.settings,
        repository=values["repo"],
        repository_file=values["repository-file"],
        password_file=values["password-file"],
        password_command=values["password-command"],
        insecure_no_password=given["from_insecure_no_password"],
        key_hint=values["key-hint"],
        expect_repository="",
        environment=own,
    )
    return Session(session.command, settings, session.output, prompt="enter password for source repository: ")
