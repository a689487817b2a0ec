"""`lowtide key`: list, add, remove, passwd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lowtide_engine.cli.options import Command
from lowtide_engine.cli.output import print_json, table
from lowtide_engine.cli.session import Session
from lowtide_engine.contract import Result

if TYPE_CHECKING:
    from lowtide_engine.repository import Password


@click.group(no_args_is_help=True)
def command() -> None:
    """List, add, remove and change passwords. Each key file is one password for the same repository."""


def _new_key_options(function: Any) -> Any:
    for option in (
        click.option(
            "--new-password-command", default="", metavar="COMMAND", help="Command that prints the new password."
        ),
        click.option(
            "--new-insecure-no-password",
            is_flag=True,
            help="The new password is empty: whoever has the repository reads it.",
        ),
        click.option("--new-password-file", default="", metavar="FILE", help="File with the new password."),
        click.option("--host", metavar="NAME", help="Host that the key is said to be made on (default: this one)."),
        click.option(
            "--user", metavar="NAME", help="User that the key is said to be made by (default: who runs this)."
        ),
    ):
        function = option(function)
    return function


@command.command("list", cls=Command)
@click.pass_context
def list_command(ctx: click.Context) -> Result:
    """List the keys; a star marks the one in use."""
    session = Session.of(ctx, "key")
    with session.repository() as repository:
        found = repository.list_keys()
    if session.output.json:
        print_json(
            [
                {
                    "current": k.current,
                    "id": k.name,
                    "userName": k.username,
                    "hostName": k.hostname,
                    "created": k.created,
                }
                for k in found
            ]
        )
    else:
        rows = [
            [f"{'*' if k.current else ' '}{k.name[:8]}", k.username, k.hostname, k.created[:19].replace("T", " ")]
            for k in found
        ]
        session.output.line(table([" ID", "User", "Host", "Created"], rows))
    return session.result()


@command.command("add", cls=Command)
@_new_key_options
@click.pass_context
def add_command(ctx: click.Context, /, user: str | None, host: str | None, **given: Any) -> Result:
    """Add a password; the one in use stays."""
    session = Session.of(ctx, "key")
    with session.repository() as repository:
        password = _new_password(given)
        with session.lock(repository, writes=True) as locked:
            locked.ensure()
            name = repository.add_key(password, username=user, hostname=host)
    session.output.message("key_added", {"id": name})
    session.output.line(f"saved new key {name[:8]}")
    return session.result()


@command.command("remove", cls=Command)
@click.argument("key", metavar="ID")
@click.pass_context
def remove_command(ctx: click.Context, key: str) -> Result:
    """Remove a key by its id, or the beginning of it; never the one in use."""
    session = Session.of(ctx, "key")
    with session.locked(writes=True, exclusive=True) as locked:
        locked.ensure()
        name = locked.repository.remove_key(key)
    session.output.message("key_removed", {"id": name})
    session.output.line(f"removed key {name[:8]}")
    return session.result()


@command.command("passwd", cls=Command)
@_new_key_options
@click.pass_context
def passwd_command(ctx: click.Context, /, user: str | None, host: str | None, **given: Any) -> Result:
    """Replace the key in use by one with another password."""
    session = Session.of(ctx, "key")
    with session.repository() as repository:
        password = _new_password(given)
        with session.lock(repository, writes=True, exclusive=True) as locked:
            locked.ensure()
            name = repository.change_password(password, username=user, hostname=host)
    session.output.message("key_added", {"id": name})
    session.output.line(f"saved new key {name[:8]}, the old one is removed")
    return session.result()


def _new_password(given: dict[str, Any]) -> Password:
    from lowtide_engine.cli.signals import at_prompt
    from lowtide_engine.errors import BadInput
    from lowtide_engine.repository import find_password

    file, command = given["new_password_file"] or None, given["new_password_command"] or None
    none = given["new_insecure_no_password"]
    at_prompt.set()
    try:
        # Without the variables that hold the password in use: the new one is another.
        new = find_password({}, file=file, command=command, none=none, prompt="enter new password: ")
        if not (file or command or none) and find_password({}, prompt="enter it again: ") != new:
            raise BadInput("the two passwords differ; nothing was changed")
        return new
    finally:
        at_prompt.clear()
