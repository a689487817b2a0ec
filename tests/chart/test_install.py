"""The chart on a real API server: it installs, upgrades and goes, and the rights are what the text says."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.chart.conftest import CHART, helm_on
from tests.cluster.controlplane import ControlPlane, control_plane
from tests.cluster.kubectl import Kubectl
from tests.cluster.waiting import wait_for

pytestmark = [pytest.mark.apiserver, pytest.mark.helm]

OPERATOR = "system:serviceaccount:lowtide:lowtide"
HEARTBEAT = "lowtide-heartbeat-lowtide-lowtide"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """One of its own: what the chart installs is for the whole cluster, and is removed at the end."""
    with control_plane() as own:
        own.kubectl("create", "namespace", "shop")
        own.kubectl("create", "namespace", "other")
        yield own


@pytest.fixture(scope="module")
def installed(plane: ControlPlane) -> Kubectl:
    """The chart, serving the namespace `shop`. Nothing runs: there is no node."""
    notes = helm_on(plane, "install", "lowtide", str(CHART), "--create-namespace", "--set", "namespaces={shop}")
    assert "serves shop" in notes
    return plane.kubectl


def may(kubectl: Kubectl, who: str, verb: str, what: str, namespace: str, groups: tuple[str, ...] = ()) -> bool:
    flags = [f"--as-group={group}" for group in groups]
    return kubectl.run("auth", "can-i", verb, what, "-n", namespace, f"--as={who}", *flags).stdout.strip() == "yes"


ALLOWED = [
    ("create", "jobs.batch"),
    ("delete", "jobs.batch"),
    ("patch", "deployments.apps/db"),
    ("patch", "statefulsets.apps/db"),
    ("patch", "cronjobs.batch/db"),
    ("create", "snapshots.lowtide.dev"),
    ("patch", "restores.lowtide.dev/back"),
    ("create", "persistentvolumeclaims"),
    ("create", "leases.coordination.k8s.io"),
    ("patch", "leases.coordination.k8s.io/lowtide"),
    ("patch", f"leases.coordination.k8s.io/{HEARTBEAT}"),
    ("create", "events"),
]
DENIED = [
    ("get", "secrets"),
    ("list", "secrets"),
    ("get", "configmaps"),
    ("create", "pods"),
    ("create", "deployments.apps"),
    ("delete", "deployments.apps/db"),
    ("delete", "persistentvolumeclaims/data"),
    ("update", "jobs.batch/mover"),
    ("patch", "jobs.batch/mover"),
    ("patch", "daemonsets.apps/db"),
    ("delete", "snapshots.lowtide.dev/s"),
    ("patch", "backuppolicies.lowtide.dev/shop"),
    ("delete", "backuppolicies.lowtide.dev/shop"),
    ("patch", "leases.coordination.k8s.io/another-controller"),
    ("delete", "leases.coordination.k8s.io/lowtide"),
    ("impersonate", "serviceaccounts"),
]


@pytest.mark.parametrize(("verb", "what"), ALLOWED)
def test_the_operator_may_do_its_work_where_it_serves_and_nowhere_else(
    installed: Kubectl, verb: str, what: str
) -> None:
    assert may(installed, OPERATOR, verb, what, "shop")
    assert not may(installed, OPERATOR, verb, what, "other")


@pytest.mark.parametrize(("verb", "what"), DENIED)
def test_the_operator_may_do_nothing_else(installed: Kubectl, verb: str, what: str) -> None:
    assert not may(installed, OPERATOR, verb, what, "shop")


def test_the_operator_can_write_a_status_but_its_admins_can_not(installed: Kubectl) -> None:
    for resource in ("backuppolicies", "snapshots", "restores"):
        flags = ("-n", "shop", "--subresource=status")
        asked = ("auth", "can-i", "patch", f"{resource}.lowtide.dev", *flags)
        assert installed.run(*asked, f"--as={OPERATOR}").stdout.strip() == "yes"
        assert installed.run(*asked, "--as=ada").stdout.strip() == "no"


def test_admins_of_a_namespace_write_editors_and_viewers_look(installed: Kubectl) -> None:
    people = {"ada": "admin", "ed": "edit", "vi": "view"}
    for person, role in people.items():
        installed("create", "rolebinding", person, f"--clusterrole={role}", f"--user={person}", "-n", "shop")

    def rights() -> dict[str, tuple[bool, bool]]:
        return {
            person: (
                may(installed, person, "create", "restores.lowtide.dev", "shop"),
                may(installed, person, "get", "restores.lowtide.dev", "shop"),
            )
            for person in people
        }

    wanted = {"ada": (True, True), "ed": (False, True), "vi": (False, True)}
    wait_for("the rights are aggregated", lambda: rights() == wanted, within=30, seen=lambda: str(rights()))


def test_the_operators_pod_is_within_the_restricted_standard(installed: Kubectl) -> None:
    template = installed.get("deployment", "lowtide", "-n", "lowtide")["spec"]["template"]
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    installed.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": labels}})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator"}, "spec": template["spec"]}
    for name in ("serviceAccountName", "serviceAccount"):
        pod["spec"].pop(name)
    wait_for(
        "the namespace has its service account",
        lambda: installed.run("get", "serviceaccount", "default", "-n", "strict").returncode == 0,
        within=30,
    )
    done = installed.run("create", "-n", "strict", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    assert done.returncode == 0, done.stderr


def test_an_upgrade_to_all_namespaces_moves_the_rights(plane: ControlPlane, installed: Kubectl) -> None:
    helm_on(plane, "upgrade", "lowtide", str(CHART), "--set", "clusterWide=true")
    try:
        assert may(installed, OPERATOR, "create", "jobs.batch", "other")
        assert installed.get("rolebindings", "-n", "shop", "-l", "app.kubernetes.io/part-of=lowtide")["items"] == []
        assert not may(installed, OPERATOR, "get", "secrets", "other")
    finally:
        helm_on(plane, "upgrade", "lowtide", str(CHART), "--set", "namespaces={shop}")
    assert not may(installed, OPERATOR, "create", "jobs.batch", "other")


def test_uninstalling_leaves_the_objects_of_people_where_they_are(plane: ControlPlane, installed: Kubectl) -> None:
    body = {
        "apiVersion": "lowtide.dev/v1alpha1",
        "kind": "BackupPolicy",
        "metadata": {"name": "kept", "namespace": "shop"},
        "spec": {
            "repository": {"secretName": "repository"},
            "volumes": {"claims": ["data"]},
            "capture": {"method": "Direct"},
        },
    }
    installed.apply(body)
    helm_on(plane, "uninstall", "lowtide")
    assert installed.get("backuppolicies.lowtide.dev", "kept", "-n", "shop")["spec"]["capture"] == {"method": "Direct"}
    assert installed.get("clusterroles", "-l", "app.kubernetes.io/part-of=lowtide")["items"] == []
    helm_on(plane, "install", "lowtide", str(CHART), "--set", "namespaces={shop}")
    assert installed.get("backuppolicies.lowtide.dev", "kept", "-n", "shop")["metadata"]["generation"] == 1
