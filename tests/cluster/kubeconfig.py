"""Kubeconfig files, and the tokens that they carry."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class User:
    """Who a token speaks for, as the API server's token file names it."""

    name: str
    groups: tuple[str, ...] = ()


ADMIN = User("lowtide-admin", ("system:masters",))
CONTROLLERS = User("system:kube-controller-manager")
SCHEDULER = User("system:kube-scheduler")
PROXY = User("system:kube-proxy")


def node_user(node: str) -> User:
    """The user of a node's kubelet."""
    return User(f"system:node:{node}", ("system:nodes",))


def write_tokens(path: Path, users: Mapping[str, User]) -> dict[str, str]:
    """Write the API server's token file with a fresh token for each user; answers the tokens by the same keys."""
    tokens = {key: secrets.token_hex(24) for key in users}
    lines = []
    for key, user in users.items():
        groups = f',"{",".join(user.groups)}"' if user.groups else ""
        lines.append(f"{tokens[key]},{user.name},{user.name}{groups}\n")
    write_private(path, "".join(lines))
    return tokens


def write_kubeconfig(path: Path, server: str, authority: Path, token: str) -> Path:
    """Write a kubeconfig that needs no other file: the authority and the token are in it. Answers `path`."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "lowtide",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(authority.read_bytes()).decode(),
                },
            }
        ],
        "users": [{"name": "lowtide", "user": {"token": token}}],
        "contexts": [{"name": "lowtide", "context": {"cluster": "lowtide", "user": "lowtide", "namespace": "default"}}],
        "current-context": "lowtide",
    }
    write_private(path, json.dumps(document, indent=1))
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    draft.rename(path)
