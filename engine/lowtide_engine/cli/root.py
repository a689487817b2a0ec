"""The table of commands. No command is imported before it is called: `lowtide --help` costs click and nothing else."""

from __future__ import annotations

import importlib
from typing import Any

import click

from lowtide_engine.cli.options import GLOBAL_OPTIONS, global_parameters, write_option_section

COMMANDS = {
    "backup": "Store files and folders as a new snapshot.",
    "cat": "Print an object of the repository.",
    "check": "Look for damage in the repository.",
    "copy": "Copy snapshots from another repository into this one.",
    "diff": "Show what changed from one snapshot to another.",
    "dump": "Write a file, or a folder as an archive, to the standard output.",
    "find": "Find files in snapshots, or what uses a blob, tree or pack.",
    "forget": "Remove snapshots by id, those of one run, or those that no rule keeps.",
    "init": "Create a repository.",
    "key": "List, add, remove and change passwords.",
    "list": "List the ids of objects of the repository.",
    "ls": "List the files of a snapshot.",
    "migrate": "Bring the repository to a newer form of the format.",
    "mount": "Show snapshots as files, read-only, by FUSE.",
    "preflight": "Prove that a backup into the repository could start now.",
    "prune": "Free what no snapshot needs.",
    "recover": "Make a snapshot of all folders that no snapshot reaches.",
    "repair": "Mend a damaged repository: index, packs, snapshots.",
    "restore": "Write the files of a snapshot into a folder.",
    "rewrite": "Make snapshots anew without some files, or with another host or time.",
    "snapshots": "List the snapshots of the repository.",
    "stats": "Count what snapshots hold.",
    "tag": "Change the tags of snapshots.",
    "unlock": "Remove locks that no living process holds.",
    "verdict": "Say that the snapshots of a run are complete together.",
    "version": "Print the version.",
}
"""Each command's module in this package (a name with a hyphen has an underscore there) and its line in the overview."""


class Commands(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"lowtide_engine.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_option_section(
            ctx, formatter, "Options", [p for p in self.get_params(ctx) if p.name not in GLOBAL_OPTIONS]
        )
        self.format_commands(ctx, formatter)
        write_option_section(ctx, formatter, "Global options", [p for p in self.params if p.name in GLOBAL_OPTIONS])


def root_command() -> Commands:
    """The `lowtide` command with its global options."""

    def nothing_else(**_: Any) -> None:
        return None

    return Commands(
        "lowtide",
        params=global_parameters(),
        callback=nothing_else,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
        help="Back up files into a repository in restic's format, and get them back.",
    )
