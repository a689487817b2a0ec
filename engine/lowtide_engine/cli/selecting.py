"""The options that say whose snapshots are meant, and which; the reserved tags have options of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lowtide_engine.cli.values import NAME, TAGS

if TYPE_CHECKING:
    from lowtide_engine.cli.session import Session
    from lowtide_engine.repository import Snapshot, SnapshotFilter

_F = TypeVar("_F", bound=Callable[..., Any])
OWNER_KEYS = ("cluster", "namespace", "policy", "run", "claim", "stream")
_OWNER_HELP = {
    "cluster": "The cluster's uid",
    "namespace": "The namespace",
    "policy": "The BackupPolicy's name",
    "run": "The run's uid",
    "claim": "The claim's name",
    "stream": "The stream's name",
}


def owner_options(function: _F) -> _F:
    """--cluster, --namespace, --policy, --run, --claim, --stream: the tags lowtide:cluster=… and so on."""
    for key in reversed(OWNER_KEYS):
        function = click.option(
            f"--{key}", type=NAME, metavar="NAME", help=f"{_OWNER_HELP[key]}, kept as the tag lowtide:{key}=NAME."
        )(function)
    return function


def filter_options(function: _F) -> _F:
    """--host, --tag, --path, as restic has them."""
    for option in (
        click.option("--path", "paths", multiple=True, metavar="PATH",
                     help="Only snapshots with this path; several: with all of them."),
        click.option("--tag", "tags", multiple=True, type=TAGS, metavar="TAG[,TAG]",
                     help="Only snapshots with all these tags, '' without any; several: with any of the lists."),
        click.option("-H", "--host", "hosts", multiple=True, metavar="HOST",
                     help="Only snapshots of this host; several: of any of them (default: $RESTIC_HOST; '' for any)."),
    ):  # fmt: skip
        function = option(function)
    return function


def snapshot_filter(
    hosts: Sequence[str], tags: Sequence[tuple[str, ...]], paths: Sequence[str], owner: dict[str, str] | None = None
) -> SnapshotFilter:
    """What the options say; each reserved tag is needed in any case. UsageError where that selects nothing.

    As in restic, RESTIC_HOST is the default of `hosts`, and one empty host means any. But an owner's snapshots are of
    the host that his policy gave them, and a mover, which has LOWTIDE_HOLDER, is told all that it is to select.
    """
    from lowtide_engine.repository import SnapshotFilter
    from lowtide_engine.repository.holder import HOLDER_VARIABLE
    from lowtide_engine.standing import owner_tags

    reserved = owner_tags(owner or {})
    if reserved and any("" in given for given in tags):
        raise click.UsageError(f"--tag '' selects snapshots without tags, and those of {reserved[0]} have some")
    lists = tuple((*given, *reserved) for given in tags) or ((reserved,) if reserved else ())
    if not hosts and not reserved and not os.environ.get(HOLDER_VARIABLE):
        hosts = (os.environ.get("RESTIC_HOST", ""),)
    return SnapshotFilter(() if tuple(hosts) == ("",) else tuple(hosts), tuple(paths), lists)


def choose(session: Session, snapshots: Sequence[Snapshot], ids: Sequence[str], only: SnapshotFilter) -> list[Snapshot]:
    """Of `snapshots` those that `ids` name, each once, else those that the filter selects. As in restic, one that isn't
    there is told and passed over, and the filter counts for `latest` only where ids are given."""
    from lowtide_engine.errors import EngineError
    from lowtide_engine.repository import find

    if not ids:
        return [snapshot for snapshot in snapshots if only.matches(snapshot)]
    named = []
    for wanted in ids:
        try:
            named.append(find(snapshots, wanted, only)[0])
        except EngineError as error:
            session.output.warn(f"passed over {wanted}: {error.message}")
    return list({snapshot.id: snapshot for snapshot in named}.values())


def taken(values: dict[str, Any]) -> dict[str, str]:
    """Takes the owner options out of a command's parameters."""
    return {key: values.pop(key) or "" for key in OWNER_KEYS}
