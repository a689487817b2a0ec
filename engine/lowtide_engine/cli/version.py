"""`lowtide version`."""

from __future__ import annotations

import platform

import click

from lowtide_engine.cli.options import Command, settings
from lowtide_engine.contract import Outcome, Result


@click.command(cls=Command)
@click.pass_context
def command(ctx: click.Context) -> Result:
    """Print the version."""
    from importlib.metadata import version

    number = version("lowtide")
    if settings(ctx).json:
        import json

        click.echo(json.dumps({"message_type": "version", "version": number, "python": platform.python_version()}))
    else:
        click.echo(
            f"lowtide {number} (python {platform.python_version()} on {platform.system().lower()}/{platform.machine()})"
        )
    return Result("version", Outcome.OK, "Completed")
