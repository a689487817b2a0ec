"""What a storage may be told beyond its location: restic's `-o name=value`, a CA, the environment, the number of
connections.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lowtide_engine.errors import BadInput


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """Settings for any storage; each takes what concerns it.

    `extended` are restic's extended options by their full names (`s3.region`). `environment` is where credentials come
    from. `connections` 0 means the storage's own default. Times in seconds.
    """

    extended: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    ca_file: Path | None = None
    insecure_tls: bool = False
    connections: int = 0
    connect_timeout: float = 15.0
    stuck_timeout: float = 120.0

    def of(self, namespace: str, known: Iterable[str]) -> dict[str, str]:
        """The extended options `namespace.…` without that prefix; refuses names that are not in `known`."""
        names = set(known)
        found = {}
        for name, value in self.extended.items():
            before, _, after = name.partition(".")
            if before != namespace:
                continue
            if after not in names:
                raise BadInput(f"no option {name}; there are {', '.join(f'{namespace}.{n}' for n in sorted(names))}")
            found[after] = value
        return found


def parse_extended(pairs: Iterable[str]) -> dict[str, str]:
    """`name=value` texts of `-o` as a mapping; names are lower-cased as restic does, the last one wins."""
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise BadInput(f"-o takes name=value, not {pair.partition('=')[0]!r}")
        options[name.strip().lower()] = value.strip()
    return options


def options_from_environment(
    environment: Mapping[str, str], *, extended: Mapping[str, str] | None = None, ca_file: str | None = None
) -> StorageOptions:
    """Options as the command line gives them, completed from the environment (RESTIC_CACERT, AWS_CA_BUNDLE is
    boto's own).
    """
    path = ca_file or environment.get("RESTIC_CACERT") or None
    if path is not None and not Path(path).is_file():
        raise BadInput(f"the CA file {path} is not there")
    connections = 0
    own = dict(extended or {})
    for name in list(own):
        if name.endswith(".connections"):
            text = own.pop(name)
            if not text.isdigit() or not 1 <= int(text) <= 64:
                raise BadInput(f"{name} is a number from 1 to 64, not {text!r}")
            connections = int(text)
    return StorageOptions(
        extended=own,
        environment=dict(environment),
        ca_file=Path(path) if path else None,
        connections=connections,
    )
