"""Fixtures of the chart's tests: Helm, and what it renders."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import programs
from tests.cluster.controlplane import ControlPlane

CHART = Path(__file__).parents[2] / "charts" / "lowtide"

Rendered = list[dict[str, Any]]
Render = Callable[..., Rendered]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Helm and answer its exit code, output and errors, whatever they are."""
    command = [str(programs.program("helm")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def helm_on(plane: ControlPlane, *arguments: str) -> str:
    """Run Helm in the namespace `lowtide` of `plane` and answer its output; fails where Helm does."""
    done = subprocess.run(
        [str(programs.program("helm")), *arguments, "--namespace", "lowtide"],
        env={**os.environ, "KUBECONFIG": str(plane.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def installed_chart(plane: ControlPlane, *settings: str) -> Iterator[None]:
    """The chart as release `lowtide`, for the time of a `with` block; the kinds stay. Nothing runs: there is no
    node."""
    flags = [part for setting in settings for part in ("--set", setting)]
    helm_on(plane, "install", "lowtide", str(CHART), "--create-namespace", *flags)
    try:
        yield
    finally:
        helm_on(plane, "uninstall", "lowtide")


@pytest.fixture(scope="session")
def render() -> Render:
    """Render the chart as release `lowtide` in the namespace `lowtide`, each argument a `--set`."""

    def run(*settings: str) -> Rendered:
        flags = [part for setting in settings for part in ("--set", setting)]
        done = helm("template", "lowtide", str(CHART), "--namespace", "lowtide", *flags)
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return run


def of_kind(rendered: Rendered, kind: str) -> Rendered:
    return [document for document in rendered if document["kind"] == kind]


def rules(rendered: Rendered) -> list[dict[str, Any]]:
    """The rules of all roles that are bound to the operator and its release pods."""
    bound = {
        binding["roleRef"]["name"]
        for kind in ("RoleBinding", "ClusterRoleBinding")
        for binding in of_kind(rendered, kind)
    }
    roles = [*of_kind(rendered, "ClusterRole"), *of_kind(rendered, "Role")]
    return [rule for role in roles if role["metadata"]["name"] in bound for rule in role["rules"]]
