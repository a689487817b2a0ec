"""What a storage may be told beyond its location: restic's `-o name=value`, certificates, the environment, the number
of connections, how fast bytes may go.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lowtide_engine.errors import BadInput
from lowtide_engine.storage.pacing import UNLIMITED, Pace

MOST_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """Settings for any storage; each takes what concerns it.

    `extended` are restic's extended options by their full names (`s3.region`). `environment` is where credentials come
    from. `connections` 0 means the storage's own default. Times in seconds: `stuck_timeout` is how long a request may
    go without any byte moving. `client_certificate` is the files of our TLS certificate and of its key.
    """

    extended: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    ca_file: Path | None = None
    client_certificate: tuple[Path, Path] | None = None
    insecure_tls: bool = False
    uploads: Pace = UNLIMITED
    downloads: Pace = UNLIMITED
    connections: int = 0
    connect_timeout: float = 15.0
    stuck_timeout: float = 120.0

    def connected(self, namespace: str) -> StorageOptions:
        """These, with the number of connections that `namespace.connections` says; BadInput unless that is 1 to 64."""
        name = f"{namespace}.connections"
        text = self.extended.get(name)
        if text is None:
            return self
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_CONNECTIONS):
            raise BadInput(f"{name} is a number from 1 to {MOST_CONNECTIONS}, not {text!r}")
        return replace(self, connections=int(text))

    def of(self, namespace: str, known: Iterable[str]) -> dict[str, str]:
        """The extended options `namespace.…` without that prefix, and without `connections`, which every storage has;
        refuses names that are not in `known`.
        """
        names = {*known, "connections"}
        found = {}
        for name, value in self.extended.items():
            before, _, after = name.partition(".")
            if before != namespace:
                continue
            if after not in names:
                raise BadInput(f"no option {name}; there are {', '.join(f'{namespace}.{n}' for n in sorted(names))}")
            found[after] = value
        found.pop("connections", None)
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
    environment: Mapping[str, str],
    *,
    extended: Mapping[str, str] | None = None,
    ca_file: str | None = None,
    client_certificate: str | None = None,
) -> StorageOptions:
    """Options as the command line gives them, completed from the environment (RESTIC_CACERT, RESTIC_TLS_CLIENT_CERT;
    AWS_CA_BUNDLE is boto's own).
    """
    path = ca_file or environment.get("RESTIC_CACERT") or None
    if path is not None and not Path(path).is_file():
        raise BadInput(f"the CA file {path} is not there")
    certificate = client_certificate or environment.get("RESTIC_TLS_CLIENT_CERT") or None
    return StorageOptions(
        extended=dict(extended or {}),
        environment=dict(environment),
        ca_file=Path(path) if path else None,
        client_certificate=_certificate_files(Path(certificate)) if certificate else None,
    )


def _certificate_files(path: Path) -> tuple[Path, Path]:
    """The files of certificate and key: one with both, as restic has it, or a folder with tls.crt and tls.key, as
    Kubernetes mounts a Secret of type kubernetes.io/tls.
    """
    certificate, key = (path / "tls.crt", path / "tls.key") if path.is_dir() else (path, path)
    for file in (certificate, key):
        if not file.is_file():
            raise BadInput(f"the TLS client certificate {file} is not there")
    return certificate, key
