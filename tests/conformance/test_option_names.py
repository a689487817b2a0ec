"""Each command and option of restic's is there by the same name, or stands in the table of what is left out."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import click
import pytest

from lowtide_engine.cli.left_out import LEFT_OUT
from lowtide_engine.cli.root import root_command

pytestmark = pytest.mark.oracle

_COMMAND = re.compile(r"^  ([a-z]+)  +\S", re.M)
_OPTION = re.compile(r"^ {2,6}(?:(-\w), )?(--[a-z-]+)( \S+)? {2,}\S", re.M)


@dataclass(frozen=True)
class Option:
    """An option as its command's help shows it; `short` is "" where it has only a long name."""

    long: str
    short: str
    takes_value: bool


def help_of(program: str, *command: str) -> str:
    return subprocess.run([program, *command, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout


def theirs(program: str, *command: str) -> Iterator[tuple[tuple[str, ...], list[Option]]]:
    """Each of restic's commands without further ones below it, and its options with the global ones."""
    text = help_of(program, *command)
    head, *flags = re.split(r"^(?:Global )?Flags:$", text, flags=re.M)
    below = _COMMAND.findall(head)
    if not below:
        found = [Option(long, short, bool(value)) for part in flags for short, long, value in _OPTION.findall(part)]
        yield command, [option for option in found if option.long != "--help"]
    for name in below:
        yield from theirs(program, *command, name)


def ours(*names: str) -> set[Option] | None:
    """The options of a command of ours; None where there is no such command."""
    command: click.Command | None = root_command()
    for name in names:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
        if command is None:
            return None
    assert command is not None
    return {
        Option(long, short, not (param.is_flag or param.count))
        for param in command.params
        if isinstance(param, click.Option)
        for long in param.opts
        if long.startswith("--")
        for short in ["", *(name for name in param.opts if not name.startswith("--"))]
    }


def test_what_restic_has_is_here_or_said_to_be_left_out(restic_program: str) -> None:
    missing: set[str] = set()
    commands = 0
    for command, options in theirs(restic_program):
        name, here = " ".join(command), ours(*command)
        commands += 1
        if here is None:
            missing.add(name)
            continue
        assert len(options) > 24, f"the help of {name} was not understood"
        for option in options:
            if option not in here:
                missing.add(option.long if option.long in LEFT_OUT else f"{name} {option.long}")

    assert commands > 30
    assert missing == LEFT_OUT.keys()
