"""The chart on a real API server: it installs, upgrades and goes, and the rights are what the text says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.conftest import CHART, helm_on
from tests.cluster.controlplane import ControlPlane, control_plane
from tests.cluster.definitions import define_applications
from tests.cluster.kubectl import Kubectl
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.rivals import application

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


def await_right(kubectl: Kubectl, who: str, verb: str, what: str, namespace: str, *, given: bool = True) -> None:
    """A role counts a moment after it was bound, and a moment longer than it was."""
    called = f"{who} {'may' if given else 'may not'} {verb} {what} in {namespace}"
    wait_for(called, lambda: may(kubectl, who, verb, what, namespace) is given, within=30)


ALLOWED = [
    ("create", "jobs.batch"),
    ("delete", "jobs.batch"),
    ("patch", "deployments.apps/db"),
    ("patch", "statefulsets.apps/db"),
    ("patch", "cronjobs.batch/db"),
    ("create", "snapshots.lowtide.dev"),
    ("create", "persistentvolumeclaims"),
    ("delete", "persistentvolumeclaims/data"),  # Of those only copies: see test_rights.
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
    await_right(installed, OPERATOR, verb, what, "shop")
    assert not may(installed, OPERATOR, verb, what, "other")


@pytest.mark.parametrize("what", ["snapshots.lowtide.dev/first", "restores.lowtide.dev/back"])
def test_the_operator_may_patch_runs_anywhere_and_do_no_more_with_them(installed: Kubectl, what: str) -> None:
    """Elsewhere an admission policy leaves of that the letting go in a namespace that is being deleted: see
    test_rights."""
    for namespace in ("shop", "other"):
        await_right(installed, OPERATOR, "patch", what, namespace)
    assert not any(may(installed, OPERATOR, verb, what, "other") for verb in ("create", "update", "delete"))


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


RELEASE = "system:serviceaccount:lowtide:lowtide-release"
FLUX = "kustomize.toolkit.fluxcd.io/reconcile"
DRIFT = "helm.toolkit.fluxcd.io/driftDetection"
HOLD = {
    "annotations": {FLUX: None, DRIFT: "enabled"},
    "attempt": 1,
    "by": "Snapshot/first",
    "generation": 1,
    "replicas": 2,
    "run": "0b1c",
    "since": "2026-01-05T02:00:00Z",
    "until": "2026-01-05T02:30:00Z",
}
BACK = {
    "metadata": {
        "labels": {"lowtide.dev/held": None},
        "annotations": {"lowtide.dev/hold": None, "lowtide.dev/released": "0b1c.1", FLUX: None, DRIFT: "enabled"},
    },
    "spec": {"replicas": 2},
}
REFUSED: dict[str, Any] = {
    "another count": ({"spec": {"replicas": 3}}, "no count but the one that the hold says"),
    "a digit of the count": ({"spec": {"replicas": 20}}, "no count but the one that the hold says"),
    "another image": (
        {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "evil"}]}}}},
        "nothing of a spec but replicas and suspend",
    ),
    "another field": ({"spec": {"paused": True}}, "nothing of a spec but replicas and suspend"),
    "another label": ({"metadata": {"labels": {"team": "b"}}}, "no label but lowtide.dev/held"),
    "a label removed": ({"metadata": {"labels": {"app": None}}}, "no label but lowtide.dev/held"),
    "another annotation": ({"metadata": {"annotations": {"x": "y"}}}, "no annotation but its own"),
    "an annotation removed": ({"metadata": {"annotations": {"note": None}}}, "no annotation but its own"),
    "another pause": ({"metadata": {"annotations": {FLUX: "enabled"}}}, "to nothing but what the hold says"),
    "a pause that was not there": ({"metadata": {"annotations": {DRIFT: None}}}, "to nothing but what the hold says"),
    "a finalizer": ({"metadata": {"finalizers": ["example.com/x"]}}, "no other metadata"),
}


def refused(kubectl: Kubectl, *arguments: str, stdin: str | None = None) -> str:
    """How the API server refuses a request of the release account; "" if it does not."""
    done = kubectl.run(*arguments, "-n", "shop", f"--as={RELEASE}", stdin=stdin)
    return done.stderr if done.returncode else ""


def patched(kubectl: Kubectl, what: str, patch: dict[str, Any], *flags: str) -> str:
    return refused(kubectl, "patch", *what.split(), "--type=merge", "-p", json.dumps(patch), *flags)


def held(name: str = "held", hold: dict[str, Any] | None = None, labels: bool = True) -> dict[str, Any]:
    """A Deployment at 0, as a run leaves it."""
    marks = {"lowtide.dev/held": "0b1c"} if labels else {}
    pod = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": "played"}]}}
    note = {"note": "of its owner", "lowtide.dev/hold": json.dumps(hold or HOLD, sort_keys=True)}
    note |= {FLUX: "disabled", DRIFT: "disabled"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"app": name, **marks},
            "annotations": note,
        },
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": pod},
    }


@pytest.fixture(scope="module")
def guarded(installed: Kubectl) -> Kubectl:
    """A workload that is held and one that is not, once the admission policy is in force. The release account gets
    every right that there is: the policy must hold anyway."""
    installed("create", "clusterrolebinding", "too-much", "--clusterrole=cluster-admin", f"--user={RELEASE}")
    installed.apply(held())
    installed.apply(held("free", labels=False))
    wait_for(
        "the admission policy is in force",
        lambda: "may do nothing else" in refused(installed, "create", "configmap", "x", "--dry-run=server"),
        within=60,
    )
    return installed


@pytest.mark.parametrize(("patch", "why"), REFUSED.values(), ids=REFUSED)
def test_a_release_pod_changes_nothing_but_what_it_puts_back(guarded: Kubectl, patch: dict[str, Any], why: str) -> None:
    assert why in patched(guarded, "deployment held", patch)


@pytest.mark.parametrize(
    "arguments",
    [
        ("scale", "deployment", "held", "--replicas=2"),
        ("delete", "deployment", "held"),
        ("delete", "persistentvolumeclaim", "data"),
        ("create", "job", "x", "--image=x"),
        ("create", "secret", "generic", "x"),
        ("create", "token", "default"),
        ("label", "namespace", "shop", "a=b"),
    ],
    ids=" ".join,
)
def test_a_release_pod_may_do_nothing_else_whatever_roles_it_has(guarded: Kubectl, arguments: tuple[str, ...]) -> None:
    if arguments[:2] == ("delete", "persistentvolumeclaim"):
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
        meta = {"name": "data", "namespace": "shop"}
        guarded.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": claim})
    assert "a release pod" in refused(guarded, *arguments)


def test_a_release_pod_leaves_alone_what_nobody_holds(guarded: Kubectl) -> None:
    assert "only what Lowtide holds" in patched(guarded, "deployment free", {"spec": {"replicas": 2}})


def test_a_release_pod_lets_a_cron_job_go_on_and_suspends_none(guarded: Kubectl) -> None:
    pod = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "played"}]}}
    hold = {**{key: value for key, value in HOLD.items() if key not in ("replicas", "annotations")}, "suspend": False}
    for name, suspended in (("stopped", True), ("going", False)):
        metadata = {
            "name": name,
            "namespace": "shop",
            "labels": {"lowtide.dev/held": "0b1c"},
            "annotations": {"lowtide.dev/hold": json.dumps(hold, sort_keys=True)},
        }
        spec = {"schedule": "0 3 * * *", "suspend": suspended, "jobTemplate": {"spec": {"template": pod}}}
        guarded.apply({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec})
    free = {"lowtide.dev/hold": None, "lowtide.dev/released": "0b1c.1"}
    back = {"metadata": {**BACK["metadata"], "annotations": free}, "spec": {"suspend": False}}
    assert "suspends nothing" in patched(guarded, "cronjob going", {"spec": {"suspend": True}})
    assert "nothing of a spec" in patched(guarded, "cronjob stopped", {"spec": {"schedule": "* * * * *"}})
    assert patched(guarded, "cronjob stopped", back) == ""


def test_a_release_pod_lets_argo_cd_go_on_and_starts_no_sync(guarded: Kubectl) -> None:
    define_applications(guarded)
    skip = "argocd.argoproj.io/skip-reconcile"
    hold = {**{key: value for key, value in HOLD.items() if key != "replicas"}, "annotations": {skip: None}}
    app = application("web-app", {"lowtide.dev/hold": json.dumps(hold, sort_keys=True), skip: "true"})
    app["metadata"] |= {
        "namespace": "shop",
        "labels": {"lowtide.dev/held": "0b1c", "lowtide.dev/run-namespace": "shop"},
    }
    guarded.apply({"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", **app})
    what = "applications.argoproj.io web-app"
    back = {"labels": {"lowtide.dev/held": None}, "annotations": {"lowtide.dev/hold": None, skip: None}}
    assert "nothing of a spec" in patched(guarded, what, {"spec": {"project": "other"}})
    assert "starts no sync" in patched(guarded, what, {"operation": {"sync": {"revision": "evil"}}})
    assert "to nothing but what the hold says" in patched(guarded, what, {"metadata": {"annotations": {skip: "false"}}})
    assert patched(guarded, what, {"metadata": back}) == ""
    assert "only what Lowtide holds" in patched(guarded, what, {"metadata": {"annotations": {skip: "true"}}})


def test_a_release_pod_ends_movers_and_no_other_pod(guarded: Kubectl) -> None:
    pod = {"containers": [{"name": "main", "image": "played"}]}
    ours = {"app.kubernetes.io/managed-by": "lowtide", "lowtide.dev/run-uid": "0b1c"}
    wait_for(
        "the namespace has its service account",
        lambda: guarded.run("get", "serviceaccount", "default", "-n", "shop").returncode == 0,
        within=30,
    )
    for name, labels in (("mover", ours), ("theirs", {"app.kubernetes.io/managed-by": "lowtide"})):
        metadata = {"name": name, "namespace": "shop", "labels": labels}
        guarded.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})
    assert "nothing but movers" in refused(guarded, "delete", "pod", "theirs", "--wait=false")
    assert refused(guarded, "delete", "pod", "mover", "--wait=false") == ""


def test_a_release_pod_marks_a_run_and_changes_nothing_else_of_it(guarded: Kubectl) -> None:
    metadata = {"name": "first", "namespace": "shop"}
    spec = {"policyName": "nightly"}
    guarded.apply({"apiVersion": "lowtide.dev/v1alpha1", "kind": "Snapshot", "metadata": metadata, "spec": spec})
    what = "snapshots.lowtide.dev first"
    assert "nothing of a spec" in patched(guarded, what, {"spec": {"pinned": True}})
    assert "may do nothing else" in patched(guarded, what, {"status": {"attempt": 3}}, "--subresource=status")
    assert "no other metadata" in patched(guarded, what, {"metadata": {"finalizers": ["example.com/x"]}})
    assert patched(guarded, what, {"metadata": {"annotations": {"lowtide.dev/release": "2026-01-05T02:30:10Z"}}}) == ""


def test_a_release_pod_puts_back_what_is_held(guarded: Kubectl) -> None:
    assert patched(guarded, "deployment held", BACK) == ""
    found = guarded.get("deployment", "held", "-n", "shop")
    assert found["spec"]["replicas"] == 2
    assert found["metadata"]["labels"] == {"app": "held"}
    assert (found["metadata"]["annotations"].get(FLUX), found["metadata"]["annotations"][DRIFT]) == (None, "enabled")
    # Others are not bound by it.
    guarded("delete", "clusterrolebinding", "too-much")
    guarded("scale", "deployment", "held", "-n", "shop", "--replicas=0")


def test_release_pods_are_made_by_the_operator_in_its_own_namespace_only(installed: Kubectl) -> None:
    assert may(installed, OPERATOR, "create", "jobs.batch", "lowtide")
    assert not may(installed, OPERATOR, "patch", "deployments.apps/db", "lowtide")
    for verb, what in (("patch", "deployments.apps/db"), ("delete", "jobs.batch"), ("get", "restores.lowtide.dev")):
        assert may(installed, RELEASE, verb, what, "shop")
        assert not may(installed, RELEASE, verb, what, "other")
    for verb, what in (("create", "jobs.batch"), ("get", "secrets"), ("delete", "snapshots.lowtide.dev")):
        assert not may(installed, RELEASE, verb, what, "shop")


def test_an_upgrade_to_all_namespaces_moves_the_rights(plane: ControlPlane, installed: Kubectl) -> None:
    helm_on(plane, "upgrade", "lowtide", str(CHART), "--set", "clusterWide=true")
    try:
        await_right(installed, OPERATOR, "create", "jobs.batch", "other")
        assert installed.get("rolebindings", "-n", "shop", "-l", "app.kubernetes.io/part-of=lowtide")["items"] == []
        assert not may(installed, OPERATOR, "get", "secrets", "other")
    finally:
        helm_on(plane, "upgrade", "lowtide", str(CHART), "--set", "namespaces={shop}")
    await_right(installed, OPERATOR, "create", "jobs.batch", "other", given=False)


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
    assert installed.get("backuppolicies.lowtide.dev", "kept", "-n", "shop")["spec"]["capture"]["method"] == "Direct"
    assert installed.get("clusterroles", "-l", "app.kubernetes.io/part-of=lowtide")["items"] == []
    helm_on(plane, "install", "lowtide", str(CHART), "--set", "namespaces={shop}")
    assert installed.get("backuppolicies.lowtide.dev", "kept", "-n", "shop")["metadata"]["generation"] == 1
