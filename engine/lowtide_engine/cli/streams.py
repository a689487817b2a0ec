"""A stream in the place of files and folders: what `backup` reads when it reads no file system."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lowtide_engine.cli.targets import LISTS

if TYPE_CHECKING:
    from lowtide_engine.stream import StreamSource

F = TypeVar("F", bound=Callable[..., Any])

SOURCES = ("stdin", "stdin_from_command", "stdin_handover", "read_device")
"""The parameters of `stream_options` that name a source; one of them at most is given."""


@dataclass(frozen=True, slots=True)
class NamedStream:
    """A stream and its absolute path in the snapshot."""

    path: bytes
    source: StreamSource


def stream_options(command: F) -> F:
    """The options that name a stream."""
    for option in reversed(
        (
            click.option("--stdin", is_flag=True, help="Store what comes from standard input as a file."),
            click.option(
                "--stdin-from-command",
                is_flag=True,
                help="Take the arguments for a command, and store what it prints as a file; no snapshot is made where "
                "it fails.",
            ),
            click.option(
                "--stdin-handover",
                metavar="FOLDER",
                help="Store what another container writes into FOLDER/stream, a FIFO that appears there, as a file; no "
                "snapshot is made unless it then writes 0 into FOLDER/status.",
            ),
            click.option(
                "--read-device",
                metavar="DEVICE",
                help="Store all that is on a block device as a file; runs of zeros take no room.",
            ),
            click.option(
                "--stdin-filename",
                metavar="PATH",
                help="Path in the snapshot of the file that a stream becomes (default: stdin; the device's own path).",
            ),
        )
    ):
        command = option(command)
    return command


def gather_stream(given: Mapping[str, Any], environment: Mapping[str, str]) -> NamedStream | None:
    """The stream that was asked for, None for files and folders. UsageError for what can't be meant together."""
    from lowtide_engine.stream import CommandOutput, Handover, StandardInput

    named = [option for option in SOURCES if given[option]]
    if not named:
        return None
    option = f"--{named[0].replace('_', '-')}"
    if len(named) > 1:
        raise click.UsageError(
            "only one of --stdin, --stdin-from-command, --stdin-handover and --read-device can be given"
        )
    if any(given[name] for name in LISTS):
        raise click.UsageError(f"{option} was given, and a list of files by --files-from, too")
    arguments: Sequence[str] = given["targets"]
    device: str | None = given["read_device"]
    path = _path(given["stdin_filename"] or (os.path.abspath(device) if device else "stdin"))
    if given["stdin_from_command"]:
        if not arguments:
            raise click.UsageError(f"{option} was given, and no command")
        return NamedStream(path, CommandOutput(arguments, environment))
    if arguments:
        raise click.UsageError(f"{option} was given, and files or folders, too")
    if device:
        from lowtide_engine.device import Device

        return NamedStream(path, Device(device))
    return NamedStream(path, StandardInput() if given["stdin"] else Handover(Path(given["stdin_handover"])))


def _path(name: str) -> bytes:
    path = os.path.normpath(f"/{name}").strip("/")
    if not path:
        raise click.BadParameter(f"{name!r} names no file", param_hint="'--stdin-filename'")
    return os.fsencode(f"/{path}")
