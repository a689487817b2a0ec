"""The operator as a process, with the service account that the chart makes and no other rights: it does all its work,
and is refused nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.planning.naming import HELD_LABEL, RELEASE_OF_LABEL
from tests.chart.conftest import CHART, helm_on, installed_chart
from tests.cluster import kubeconfig
from tests.cluster.controlplane import ControlPlane, control_plane
from tests.cluster.definitions import define_applications, define_keda
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.movers import Play
from tests.integration.operator_world.process import Operator, ReleasePod
from tests.integration.operator_world.rivals import ARGOCD, PlayedKeda, application, scaled_object, tracking_id
from tests.integration.operator_world.world import World

pytestmark = [pytest.mark.apiserver, pytest.mark.helm]


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """One of its own: the chart is installed into it."""
    with control_plane() as own:
        yield own


@pytest.fixture(params=["one namespace", "every namespace"])
def shop(request: pytest.FixtureRequest, plane: ControlPlane, tmp_path: Path) -> Iterator[World]:
    """A namespace with a shop, and the operator that the chart describes, with its account's token."""
    world = World(plane, tmp_path)
    everywhere = request.param == "every namespace"
    scope = "clusterWide=true" if everywhere else f"namespaces={{{world.namespace}}}"
    world.set_up()
    plane.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ARGOCD}})
    try:
        with installed_chart(plane, scope, "argocd.mode=Pause"):
            world.kubelet.also.append("lowtide")
            world.operator = Operator(
                as_account(plane, tmp_path, "lowtide"),
                tmp_path / "operator.log",
                "" if everywhere else world.namespace,
                namespace="lowtide",
                installation="lowtide/lowtide",
                release_account="lowtide-release",
                argocd="Pause",
            )
            world.operator.start()
            yield world
    finally:
        world.tear_down()


def test_a_run_a_restore_and_a_deletion_need_no_other_rights(shop: World) -> None:
    shop.policy()
    shop.await_ready(kinds.BACKUP_POLICY, "nightly")
    shop.snapshot(deletionPolicy="Delete")
    shop.await_ready(kinds.SNAPSHOT, "first")
    shop.assert_back()
    copy = {"claim": "db-data", "newClaim": {"name": "db-copy", "size": "1Gi"}}
    shop.restore("back", source={"snapshotName": "first"}, overwrite="Mirror", volumes=[{"claim": "web-data"}, copy])
    shop.await_ready(kinds.RESTORE, "back")
    shop.assert_back()
    delete(shop, kinds.RESTORE, "back")
    delete(shop, kinds.SNAPSHOT, "first")
    assert len(shop.movers.forgotten) == 3, "two volumes and the verdict"
    assert refusals(shop) == []


def test_a_run_by_copies_needs_no_other_rights_and_no_claim_but_a_copy_can_be_deleted(shop: World) -> None:
    shop.allow_copies()
    shop.policy(capture={"method": "Snapshot", "storageClassName": "played"})
    shop.snapshot()
    shop.await_ready(kinds.SNAPSHOT, "first")
    shop.policy("together", capture={"method": "GroupSnapshot", "storageClassName": "played"})
    shop.snapshot("second", "together")
    shop.await_ready(kinds.SNAPSHOT, "second")
    shop.assert_back()
    copies = (kinds.CLAIM, kinds.VOLUME_SNAPSHOT, kinds.GROUP_SNAPSHOT)
    wait_for(
        "no copy is left",
        lambda: [len(shop.api.list(kind, shop.namespace)) for kind in copies] == [2, 0, 0],
        within=60,
    )
    assert refusals(shop) == []
    own = ("-n", shop.namespace, "--as", "system:serviceaccount:lowtide:lowtide")
    kubectl = shop.plane.kubectl
    refused = kubectl.run("delete", "persistentvolumeclaim", "web-data", "--wait=false", *own)
    assert "deletes only copies" in refused.stderr
    refused = kubectl.run("label", "persistentvolumeclaim", "web-data", "lowtide.dev/copy=true", *own)
    assert "lowtide.dev/copy" in refused.stderr
    assert refused.returncode != 0


@pytest.mark.parametrize("shop", ["one namespace"], indirect=True)
def test_a_namespace_that_is_deleted_goes_although_its_role_binding_goes_first(shop: World) -> None:
    """Nobody can make another RoleBinding there, and an operator that starts finds it so."""
    shop.policy()
    shop.snapshot(deletionPolicy="Delete")
    shop.await_ready(kinds.SNAPSHOT, "first")
    shop.movers.script = lambda words, before: Play(hang=True) if words[0] == "backup" else None
    shop.snapshot("second", deletionPolicy="Delete")
    wait_for("movers run", lambda: shop.movers.count("backup") == 4, within=60, seen=shop.operator.tail)
    kubectl, space = shop.plane.kubectl, shop.namespace
    kubectl("create", "namespace", "elsewhere")
    spec = {"policyName": "nightly"}
    foreign = {"apiVersion": "lowtide.dev/v1alpha1", "kind": "Snapshot", "spec": spec}
    kubectl.apply({**foreign, "metadata": {"name": "foreign", "namespace": "elsewhere", "finalizers": ["a.example/b"]}})
    own = ("-n", "elsewhere", "--as", "system:serviceaccount:lowtide:lowtide")
    none = ("--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    refused = kubectl.run("patch", "snapshots.lowtide.dev", "foreign", *none, *own)
    assert "only lets go" in refused.stderr
    kubectl("delete", "namespace", "elsewhere", "--wait=false")
    wait_for(
        "the admission policy sees that the namespace is being deleted",
        lambda: kubectl.run("patch", "snapshots.lowtide.dev", "foreign", *none, *own).returncode == 0,
        within=30,
    )
    shop.operator.kill()
    kubectl("delete", "namespace", space, "--wait=false")
    kubectl("delete", "rolebinding", "lowtide-lowtide-served", "-n", space, "--ignore-not-found")
    for name in ("first", "second"):
        wait_for(
            "its deletion has come to it",
            lambda name=name: (
                "deletionTimestamp" in (shop.api.get(kinds.SNAPSHOT, space, name) or {"metadata": {}})["metadata"]
            ),
            within=60,
        )
    shop.operator.start(ready=False)
    wait_for(
        "the namespace is gone",
        lambda: shop.api.get(kinds.NAMESPACE, None, space) is None,
        within=120,
        every=0.5,
        seen=lambda: shop.operator.text()[-20000:],
    )
    wait_for(
        "no release pod is left",
        lambda: shop.api.list(kinds.JOB, "lowtide", RELEASE_OF_LABEL) == [],
        within=30,
        seen=shop.operator.tail,
    )
    assert shop.movers.forgotten == [], "what was stored stays in the repository"


@pytest.mark.parametrize("shop", ["one namespace"], indirect=True)
def test_only_the_account_of_hooks_may_execute_commands_and_only_where_it_is_said(shop: World) -> None:
    kubectl, space = shop.plane.kubectl, shop.namespace
    flags = ("--set", f"namespaces={{{space}}}", "--set", f"exec.namespaces={{{space}}}")
    helm_on(shop.plane, "upgrade", "lowtide", str(CHART), *flags)

    def may(account: str, verb: str, what: str, where: str) -> bool:
        resource, _, subresource = what.partition("/")
        asked = ["auth", "can-i", verb, resource, "-n", where, "--as", f"system:serviceaccount:{account}"]
        asked += ["--subresource", subresource] if subresource else []
        return kubectl.run(*asked).stdout.strip() == "yes"

    hooks = f"{space}:lowtide-exec"
    for verb, what in (("get", "pods/exec"), ("create", "pods/exec"), ("list", "pods")):
        wait_for(
            f"hooks may {verb} {what}",
            lambda verb=verb, what=what: may(hooks, verb, what, space),  # type: ignore[misc]
            within=30,
        )
        assert not may(hooks, verb, what, "default")
    for verb, what in (("get", "secrets"), ("create", "pods"), ("delete", "pods"), ("get", "pods/log")):
        assert not may(hooks, verb, what, space)
    for account in ("lowtide:lowtide", "lowtide:lowtide-release"):
        for verb in ("get", "create"):
            assert not may(account, verb, "pods/exec", space)


@pytest.mark.parametrize("shop", ["one namespace"], indirect=True)
def test_a_release_pod_needs_no_other_rights(shop: World, tmp_path: Path) -> None:
    """The admission policy lets it take away what pauses Flux, KEDA and Argo CD, too."""
    shop.movers.script = lambda words, before: Play(hang=True) if words[0] == "backup" else None
    flux = {f"kustomize.toolkit.fluxcd.io/{key}": key for key in ("name", "namespace")}
    argo = tracking_id("web-app", shop.namespace, "web")
    shop.api.patch(kinds.DEPLOYMENT, shop.namespace, "web", {"metadata": {"labels": flux, "annotations": argo}})
    define_keda(shop.plane.kubectl)
    define_applications(shop.plane.kubectl)
    shop.api.create(kinds.APPLICATION, application("web-app"))
    shop.api.create(kinds.SCALED_OBJECT, scaled_object(shop.namespace, "web-scaler", "web"))
    shop.policy(quiesce={"timeout": "30s", "maxDowntime": "30s"})
    shop.snapshot()
    with PlayedKeda(shop.api, shop.namespace, "web", 2):
        wait_for("movers run", lambda: shop.movers.count("backup") == 2, within=60, seen=shop.operator.tail)
        shop.operator.kill()
        await_release(shop, tmp_path)
    scaler = shop.api.get(kinds.SCALED_OBJECT, shop.namespace, "web-scaler") or {}
    assert list(scaler["metadata"]["annotations"]) == ["lowtide.dev/released"]
    app = shop.api.get(kinds.APPLICATION, ARGOCD, "web-app") or {}
    assert list(app["metadata"]["annotations"]) == ["lowtide.dev/released"]
    web = shop.api.get(kinds.DEPLOYMENT, shop.namespace, "web") or {}
    assert "kustomize.toolkit.fluxcd.io/reconcile" not in web["metadata"]["annotations"]


def await_release(shop: World, folder: Path) -> None:
    """Run the release pod's program with its account's rights, until nothing is held."""
    (job,) = shop.api.list(kinds.JOB, "lowtide", RELEASE_OF_LABEL)
    pod = ReleasePod(
        as_account(shop.plane, folder, "lowtide-release"),
        folder / "release.log",
        job["spec"]["template"]["spec"]["containers"][0]["args"],
    )
    pod.start()
    try:
        wait_for(
            "the counts are back", lambda: shop.counts() == shop.wanted_counts(), within=100, every=0.2, seen=pod.text
        )
        wait_for("nothing is held", lambda: shop.held() == [], within=60, seen=pod.text)
        wait_for(
            "nothing is paused",
            lambda: (
                not shop.api.list(kinds.SCALED_OBJECT, shop.namespace, HELD_LABEL)
                and not shop.api.list(kinds.APPLICATION, ARGOCD, HELD_LABEL)
            ),
            within=60,
            seen=pod.text,
        )
    finally:
        pod.kill()
        shop.api.delete(kinds.JOB, "lowtide", job["metadata"]["name"])
    assert "forbidden" not in pod.text().lower()


def as_account(plane: ControlPlane, folder: Path, account: str) -> Path:
    """A kubeconfig with the token of one of the chart's service accounts."""
    token = plane.kubectl("create", "token", account, "-n", "lowtide").strip()
    return kubeconfig.write_kubeconfig(folder / f"{account}.kubeconfig", plane.url, plane.certificates.authority, token)


def delete(shop: World, kind: Kind, name: str) -> None:
    """Delete an object, and wait until its finalizer lets it go."""
    shop.api.delete(kind, shop.namespace, name)
    wait_for(
        f"{kind} {name} is gone",
        lambda: shop.api.get(kind, shop.namespace, name) is None,
        within=60,
        seen=shop.operator.tail,
    )


def refusals(shop: World) -> list[str]:
    """Lines of the operator's log in which the API server refused something for want of rights."""
    return [line for line in shop.operator.text().splitlines() if re.search(r"[Ff]orbidden|HTTP 403", line)]
