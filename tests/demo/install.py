"""Lowtide on a cluster: the chart by Helm, and the Secret that describes a repository."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import programs
from tests.cluster.clusters import Cluster

CHART = Path(__file__).resolve().parents[2] / "charts" / "lowtide"
RELEASE = "lowtide"


def install(cluster: Cluster, *, namespaces: Sequence[str] = (), values: Mapping[str, str] | None = None) -> None:
    """Install or upgrade the chart for `namespaces` (none: for the whole cluster); the operator is ready then."""
    repository, tag = cluster.images.lowtide.rsplit(":", 1)
    settings = {
        "image.repository": repository,
        "image.tag": tag,
        "image.pullPolicy": "IfNotPresent",
        **({"namespaces": "{" + ",".join(namespaces) + "}"} if namespaces else {"clusterWide": "true"}),
        **(values or {}),
    }
    subprocess.run(
        [
            programs.program("helm"),
            "upgrade",
            RELEASE,
            CHART,
            "--install",
            "--namespace",
            "lowtide",
            "--create-namespace",
            "--wait",
            "--timeout",
            "3m",
            *(part for name, value in settings.items() for part in ("--set", f"{name}={value}")),
        ],
        env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def repository_secret(name: str, repository: str, password: str, credentials: Mapping[str, str]) -> str:
    """The manifest of a Secret with restic's environment names."""
    data = {"RESTIC_REPOSITORY": repository, "RESTIC_PASSWORD": password, **credentials}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
