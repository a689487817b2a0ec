"""Every mover Job and a release pod's, as a real API server takes it: valid, complete, nothing of it dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lowtide_operator.manifests import mover_job, release_job
from tests.cluster.controlplane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.waiting import wait_for
from tests.unit.manifests.cases import CASES, INSTALLATION, RELEASE, RELEASE_PODS

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def kubectl(control_plane: ControlPlane) -> Iterator[Kubectl]:
    """An API server with a namespace that lets in only what the restricted Pod Security Standard allows, and one that
    lets in anything; both have the account that may exec, as the chart makes it."""
    kubectl = control_plane.kubectl
    for name, level in (("shop", "privileged"), ("strict", "restricted")):
        labels = {"pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/warn": level}
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        account = {"name": INSTALLATION.exec_account, "namespace": name}
        kubectl.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        wait_for(
            f"the namespace {name} has its service account",
            lambda name=name: kubectl.run("get", "serviceaccount", "default", "-n", name).returncode == 0,  # type: ignore[misc]
            within=90,
        )
    yield kubectl
    kubectl("delete", "namespace", "shop", "strict", "--wait=false")


@pytest.mark.parametrize("name", CASES)
def test_a_job_is_accepted_and_nothing_of_it_is_lost(kubectl: Kubectl, name: str) -> None:
    ours = mover_job(CASES[name], INSTALLATION)
    answer = kubectl(
        *("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-"), stdin=json.dumps(ours)
    )
    assert missing(ours, json.loads(answer)) == []


def missing(ours: Any, theirs: Any, place: str = "") -> list[str]:
    """Where `theirs` lacks something of `ours`; it may have more. A quantity counts as the same in another notation."""
    if isinstance(ours, dict):
        if not isinstance(theirs, dict):
            return [place]
        return [bad for key, value in ours.items() for bad in missing(value, theirs.get(key), f"{place}.{key}")]
    if isinstance(ours, list):
        if not isinstance(theirs, list) or len(theirs) != len(ours):
            return [place]
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [bad for number, (one, other) in pairs for bad in missing(one, other, f"{place}[{number}]")]
    absent_is_false = ours is False and theirs is None
    quantity = place.endswith((".memory", ".cpu", ".sizeLimit")) and theirs is not None
    return [] if ours == theirs or absent_is_false or quantity else [f"{place}: {ours!r} became {theirs!r}"]


AS_ROOT = {"backup-block"}
"""A device belongs to root, and where the pod that uses it names no user, its mover is root, without capabilities."""


@pytest.mark.parametrize("name", [name for name in CASES if "elevated" not in name and name not in AS_ROOT])
def test_a_mover_without_privilege_is_within_the_restricted_standard(kubectl: Kubectl, name: str) -> None:
    template = mover_job(CASES[name], INSTALLATION)["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "mover", **template["metadata"]},
        "spec": template["spec"],
    }
    done = kubectl.run("create", "-n", "strict", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def test_a_release_pod_is_accepted_and_within_the_restricted_standard(kubectl: Kubectl) -> None:
    ours = release_job(RELEASE, INSTALLATION, replace(RELEASE_PODS, namespace="strict"))
    command = ("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-")
    done = kubectl.run(*command, stdin=json.dumps(ours))
    assert done.returncode == 0, done.stderr
    assert missing(ours, json.loads(done.stdout)) == []
    assert "Warning" not in done.stderr
