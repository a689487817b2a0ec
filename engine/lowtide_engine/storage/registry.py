"""Which storage a location means. A new one is one line in SCHEMES; nothing of it is imported before it is asked
for.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from lowtide_engine.errors import BadInput
from lowtide_engine.storage.base import Storage
from lowtide_engine.storage.clock import Clock, SystemClock
from lowtide_engine.storage.options import StorageOptions
from lowtide_engine.storage.retry import Retrying

Opener = Callable[[str, StorageOptions], Storage]
"""Takes the whole location and the options. Opens no connection: that is for the first call."""

SCHEMES: dict[str, str] = {
    "local": "lowtide_engine.storage.local:open_local",
    "rest": "lowtide_engine.storage.rest:open_rest",
    "s3": "lowtide_engine.storage.s3:open_s3",
    "sftp": "lowtide_engine.storage.sftp:open_sftp",
}
"""scheme -> module:function."""

_SCHEME = re.compile(r"([a-z][a-z0-9+-]*):")
_KNOWN_ELSEWHERE = ("rclone", "b2", "azure", "gs", "swift", "opendal")


def open_storage(location: str, options: StorageOptions | None = None, *, clock: Clock | None = None) -> Storage:
    """The storage that `location` names, as restic reads it (`s3:host/bucket/prefix`, `sftp:user@host:/path`,
    `rest:https://host/`, `local:path`, a path), with retries around it.

    Raises `BadInput` for a scheme that doesn't exist here; opens no connection yet.
    """
    settings = options or StorageOptions()
    scheme, address = _split(location)
    module, _, name = SCHEMES[scheme].partition(":")
    opener = cast("Opener", getattr(importlib.import_module(module), name))
    storage = opener(address, settings.connected(scheme))
    return Retrying(storage, clock or SystemClock())


def connections_asked_for(location: str, options: StorageOptions) -> int:
    """What `-o NAME.connections` says for the storage of this location; 0 where nothing."""
    return options.connected(_split(location)[0]).connections


def find_location(given: str | None, environment: Mapping[str, str], *, given_file: str | None = None) -> str:
    """The repository's location: --repo, --repository-file, RESTIC_REPOSITORY, RESTIC_REPOSITORY_FILE, in that
    order.
    """
    if given and given_file:
        raise BadInput("--repo and --repository-file name two repositories: give one of them")
    file = given_file or (None if given else environment.get("RESTIC_REPOSITORY_FILE"))
    if given is None and given_file is None and environment.get("RESTIC_REPOSITORY"):
        given, file = environment["RESTIC_REPOSITORY"], None
    if file:
        try:
            given = Path(file).read_text().strip()
        except OSError as error:
            raise BadInput(f"could not read the repository's location from {file}: {error.strerror}") from error
    if not given:
        raise BadInput("no repository was named", hint="give --repo, or set RESTIC_REPOSITORY")
    return given


def _split(location: str) -> tuple[str, str]:
    """(scheme, what its opener takes). As in restic, what names no scheme is a path, but an unknown scheme isn't."""
    match = _SCHEME.match(location)
    if match is None or (match[1] not in SCHEMES and location.startswith((".", "/"))):
        return "local", location
    scheme = match[1]
    if scheme == "local":
        return scheme, location.removeprefix("local:")
    if scheme in SCHEMES:
        return scheme, location
    known = ", ".join(sorted(SCHEMES))
    later = " yet" if scheme in _KNOWN_ELSEWHERE else ""
    raise BadInput(
        f"no storage called {scheme!r} here{later}; there are {known}",
        hint=f"for a folder whose name starts so, write local:{scheme}:…",
    )
