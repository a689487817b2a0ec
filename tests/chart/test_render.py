"""What the chart renders: rights that are narrow, an operator that may do little, values that are checked."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lowtide_operator.api import crd
from lowtide_operator.telemetry import Metrics
from tests.chart.conftest import CHART, Render, Rendered, helm, of_kind, rules

pytestmark = pytest.mark.helm

ROOT = CHART.parents[1]


def only(rendered: Rendered, kind: str) -> dict[str, Any]:
    (document,) = of_kind(rendered, kind)
    return document


def environment(rendered: Rendered) -> dict[str, str]:
    (container,) = only(rendered, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item.get("value", "") for item in container["env"]}


def test_the_chart_passes_lint() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_chart_has_the_version_of_the_distribution() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version[1], version[1])


def test_the_definitions_are_those_of_the_repository(render: Render) -> None:
    rendered = {document["metadata"]["name"]: document for document in of_kind(render(), "CustomResourceDefinition")}
    for resource in crd.RESOURCES:
        wanted = crd.definition(resource)
        found = rendered.pop(wanted["metadata"]["name"])
        assert found["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert found == wanted
    assert rendered == {}


def test_the_definitions_can_be_left_out_or_let_go(render: Render) -> None:
    assert of_kind(render("crds.enabled=false"), "CustomResourceDefinition") == []
    for document in of_kind(render("crds.keep=false"), "CustomResourceDefinition"):
        assert not document["metadata"].get("annotations")


def test_the_definitions_carry_what_an_argo_cd_needs(render: Render) -> None:
    """docs/gitops/README.md: it does not read Helm's `keep`."""
    settings = r"crds.annotations.argocd\.argoproj\.io/sync-options=Prune=false\,Delete=false"
    wanted = {"argocd.argoproj.io/sync-options": "Prune=false,Delete=false"}
    for keep, more in (("true", {"helm.sh/resource-policy": "keep"}), ("false", {})):
        for document in of_kind(render(settings, f"crds.keep={keep}"), "CustomResourceDefinition"):
            assert document["metadata"]["annotations"] == wanted | more


@pytest.mark.parametrize(("enabled", "operators"), [("true", 1), ("false", 0)])
def test_a_chart_above_can_switch_it_off(tmp_path: Path, enabled: str, operators: int) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    dependency = {"name": "lowtide", "version": version, "condition": "lowtide.enabled"}
    above = {"apiVersion": "v2", "name": "shop", "version": "1.0.0", "dependencies": [dependency]}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(above))
    shutil.copytree(CHART, tmp_path / "charts" / "lowtide")
    done = helm("template", "shop", str(tmp_path), "--set", f"lowtide.enabled={enabled}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nkind: Deployment\n") == operators


def test_roles_of_your_own_are_narrowed_by_the_same_policies(render: Render) -> None:
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    own, without = render("rbac.create=false", "rbac.aggregate=false"), render("admissionPolicies.create=false")
    for kind in kinds:
        assert of_kind(own, kind) == of_kind(render(), kind) != []
        assert of_kind(without, kind) == []
    for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"):
        assert of_kind(own, kind) == []


@pytest.mark.parametrize("settings", [("namespaces={shop,wiki}",), ("clusterWide=true",)])
def test_no_role_of_the_operator_touches_secrets_or_asks_for_everything(
    render: Render, settings: tuple[str, ...]
) -> None:
    found = rules(render(*settings))
    assert found
    for rule in found:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], rule
        for forbidden in ("secrets", "pods/exec", "serviceaccounts", "serviceaccounts/token", "roles", "rolebindings"):
            assert forbidden not in rule["resources"], rule
        assert not {"bind", "escalate", "impersonate"} & set(rule["verbs"])


def test_across_the_cluster_the_operator_only_looks_but_for_letting_go_of_what_is_its_own(render: Render) -> None:
    rendered = render("namespaces={shop,wiki}")
    bound = {binding["roleRef"]["name"] for binding in of_kind(rendered, "ClusterRoleBinding")}
    roles = {r["metadata"]["name"]: r["rules"] for r in of_kind(rendered, "ClusterRole")}
    assert bound == {"lowtide-lowtide-cluster", "lowtide-lowtide-going"}
    for rule in roles["lowtide-lowtide-cluster"]:
        assert set(rule["verbs"]) <= {"get", "list", "watch"}
    looked_at = {resource for rule in roles["lowtide-lowtide-cluster"] for resource in rule["resources"]}
    assert looked_at == {
        "namespaces", "persistentvolumes", "nodes", "csidrivers", "volumeattachments", "customresourcedefinitions",
        "storageclasses", "volumesnapshotclasses", "volumegroupsnapshotclasses",
    }  # fmt: skip
    assert roles["lowtide-lowtide-going"] == [
        {"apiGroups": ["lowtide.dev"], "resources": ["snapshots", "restores"], "verbs": ["get", "list", "patch"]}
    ]
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind(rendered, "ValidatingAdmissionPolicy")}
    conditions = [condition["expression"] for condition in policies["lowtide-lowtide-going"]["matchConditions"]]
    assert conditions[1] == "!(request.namespace in ['shop','wiki'])", "what the operator serves needs no narrowing"
    names = {b["spec"]["policyName"] for b in of_kind(rendered, "ValidatingAdmissionPolicyBinding")}
    assert names == set(policies), "a policy that nothing binds narrows nothing"


def test_each_served_namespace_has_a_binding_and_no_other(render: Render) -> None:
    rendered = render("namespaces={wiki,shop}")
    assert serving(rendered) == {
        "lowtide-lowtide-served": ["shop", "wiki"],
        "lowtide-lowtide-release": ["shop", "wiki"],
        "lowtide-own": ["lowtide"],
    }
    assert environment(rendered)["LOWTIDE_NAMESPACES"] == "shop,wiki"


def serving(rendered: Rendered) -> dict[str, list[str]]:
    """The namespaces of each RoleBinding's name."""
    found: dict[str, list[str]] = {}
    for binding in of_kind(rendered, "RoleBinding"):
        found.setdefault(binding["metadata"]["name"], []).append(binding["metadata"]["namespace"])
    return {name: sorted(spaces) for name, spaces in found.items()}


def test_without_namespaces_the_releases_own_is_served(render: Render) -> None:
    rendered = render()
    assert {name for spaces in serving(rendered).values() for name in spaces} == {"lowtide"}
    assert environment(rendered)["LOWTIDE_NAMESPACES"] == "lowtide"


def test_cluster_wide_there_is_one_binding_and_no_list_of_namespaces(render: Render) -> None:
    rendered = render("clusterWide=true")
    assert serving(rendered) == {"lowtide-own": ["lowtide"]}
    assert len(of_kind(rendered, "ClusterRoleBinding")) == 3
    assert environment(rendered)["LOWTIDE_NAMESPACES"] == ""


def test_bindings_name_the_account_of_the_deployment(render: Render) -> None:
    rendered = render("serviceAccount.name=tide", "namespaces={shop}")
    accounts = {account["metadata"]["name"] for account in of_kind(rendered, "ServiceAccount")}
    pod = only(rendered, "Deployment")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "tide"
    assert environment(rendered)["LOWTIDE_RELEASE_ACCOUNT"] == "lowtide-release"
    assert accounts == {"tide", "lowtide-release"}
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        for binding in of_kind(rendered, kind):
            name = "lowtide-release" if binding["metadata"]["name"].endswith("-release") else "tide"
            assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "lowtide"}]


def test_nobody_may_execute_commands_unless_it_is_said_where(render: Render) -> None:
    rendered = render("namespaces={shop,wiki}")
    assert not [role for role in of_kind(rendered, "Role") if "exec" in role["metadata"]["name"]]
    assert not any(name.startswith("LOWTIDE_EXEC") for name in environment(rendered))


@pytest.mark.parametrize("scope", ["namespaces={shop,wiki,mail}", "clusterWide=true"])
def test_where_it_is_said_an_account_may_execute_commands_there_and_nothing_else(render: Render, scope: str) -> None:
    rendered = render(scope, "exec.namespaces={shop,mail}")
    found = {}
    for kind in ("ServiceAccount", "Role", "RoleBinding"):
        own = [body for body in of_kind(rendered, kind) if body["metadata"]["name"] == "lowtide-exec"]
        assert [body["metadata"]["namespace"] for body in own] == ["mail", "shop"]
        found[kind] = own
    for role, binding in zip(found["Role"], found["RoleBinding"], strict=True):
        assert {resource: rule["verbs"] for rule in role["rules"] for resource in rule["resources"]} == {
            "pods": ["list"],
            "pods/exec": ["get", "create"],
        }
        (subject,) = binding["subjects"]
        assert subject == {
            "kind": "ServiceAccount",
            "name": "lowtide-exec",
            "namespace": binding["metadata"]["namespace"],
        }, "a token reaches no other namespace"
    assert environment(rendered)["LOWTIDE_EXEC_NAMESPACES"] == "mail,shop"
    assert environment(rendered)["LOWTIDE_EXEC_ACCOUNT"] == "lowtide-exec"
    assert "pods/exec" not in [resource for rule in operator_rules(rendered) for resource in rule["resources"]]


def operator_rules(rendered: Rendered) -> list[dict[str, Any]]:
    """The rules of the roles that are bound to the operator's own account."""
    bindings = [*of_kind(rendered, "RoleBinding"), *of_kind(rendered, "ClusterRoleBinding")]
    bound = {b["roleRef"]["name"] for b in bindings for s in b["subjects"] if s["name"] == "lowtide"}
    roles = [*of_kind(rendered, "ClusterRole"), *of_kind(rendered, "Role")]
    assert bound
    return [rule for role in roles if role["metadata"]["name"] in bound for rule in role["rules"]]


def test_commands_in_a_namespace_that_is_not_served_are_refused() -> None:
    settings = ("--set", "namespaces={shop}", "--set", "exec.namespaces={wiki}")
    done = helm("template", "lowtide", str(CHART), *settings)
    assert done.returncode != 0
    assert "exec.namespaces has wiki, which is not served: add it to namespaces" in done.stderr


def test_release_pods_are_scheduled_like_the_operator(render: Render) -> None:
    rendered = render("nodeSelector.pool=tools", "priorityClassName=high")
    given = json.loads(environment(rendered)["LOWTIDE_RELEASE_POD"])
    assert given == {"nodeSelector": {"pool": "tools"}, "priorityClassName": "high", "tolerations": [], "affinity": {}}


def test_people_write_as_admins_only_and_look_as_viewers(render: Render) -> None:
    aggregated = {
        label.removeprefix("rbac.authorization.k8s.io/aggregate-to-"): role["rules"]
        for role in of_kind(render(), "ClusterRole")
        for label in role["metadata"]["labels"]
        if label.startswith("rbac.authorization.k8s.io/aggregate-to-")
    }
    assert set(aggregated) == {"admin", "view"}
    assert set(aggregated["view"][0]["verbs"]) == {"get", "list", "watch"}
    for found in aggregated.values():
        (rule,) = found
        assert rule["resources"] == ["backuppolicies", "snapshots", "restores"], "a status is the operator's alone"
    assert len(of_kind(render("rbac.aggregate=false"), "ClusterRole")) == 4


def test_the_operator_is_one_and_may_do_little(render: Render) -> None:
    spec = only(render(), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert str(ports["http"]) == environment(render())["LOWTIDE_HTTP_PORT"]


def test_movers_run_the_operators_image(render: Render) -> None:
    digest = f"sha256:{'0' * 64}"
    for settings, image in (
        (("image.repository=mirror.example/lowtide", "image.tag=v9"), "mirror.example/lowtide:v9"),
        (("image.repository=mirror.example/lowtide", f"image.digest={digest}"), f"mirror.example/lowtide@{digest}"),
    ):
        rendered = render(*settings)
        (container,) = only(rendered, "Deployment")["spec"]["template"]["spec"]["containers"]
        assert container["image"] == environment(rendered)["LOWTIDE_MOVER_IMAGE"] == image


def test_images_that_policies_name_run_only_where_the_chart_says_so(render: Render) -> None:
    assert environment(render())["LOWTIDE_ALLOW_STREAMS"] == "false"
    assert environment(render("streams.allow=true"))["LOWTIDE_ALLOW_STREAMS"] == "true"


def test_the_alerts_are_those_of_the_reference_and_name_metrics_that_are_there(render: Render) -> None:
    assert of_kind(render(), "PrometheusRule") == []
    rendered = render("metrics.rules.enabled=true", "metrics.rules.labels.release=monitoring")
    rule = only(rendered, "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "monitoring"
    (group,) = rule["spec"]["groups"]
    page = (ROOT / "docs" / "reference" / "operator.md").read_text()
    told = re.findall(r"^\| `([^`]+)` \| (0|\d+[mh]) \|", page, re.MULTILINE)
    assert [(alert["expr"], alert.get("for", "0")) for alert in group["rules"]] == told
    shown = {family.name for family in Metrics().registry.collect()}
    for alert in group["rules"]:
        assert set(re.findall(r"lowtide_\w+", alert["expr"])) <= shown
        assert alert["annotations"]["summary"]


def test_a_service_monitor_comes_with_its_service(render: Render) -> None:
    rendered = render("metrics.serviceMonitor.enabled=true", "metrics.service.enabled=false")
    monitor, service = only(rendered, "ServiceMonitor"), only(rendered, "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert endpoint["honorLabels"], "the namespace of a metric is the policy's, and not the operator's"
    pod = only(rendered, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= pod.items()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("namespace=shop", "additional properties 'namespace' not allowed"),
        ("image.digest=latest", "does not match pattern"),
        ("logLevel=LOUD", "value must be one of"),
        ("namespaces={Shop_1}", "does not match pattern"),
        ("workers=0", "minimum"),
    ],
)
def test_a_value_that_means_nothing_is_refused(setting: str, sentence: str) -> None:
    done = helm("template", "lowtide", str(CHART), "--set", setting)
    assert done.returncode != 0
    assert sentence in done.stderr


def test_all_namespaces_and_some_of_them_contradict_each_other() -> None:
    done = helm("template", "lowtide", str(CHART), "--set", "clusterWide=true", "--set", "namespaces={shop}")
    assert done.returncode != 0
    assert "clusterWide serves every namespace: leave namespaces empty" in done.stderr


def test_the_readme_has_every_value_with_its_default() -> None:
    table = dict(re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|", (CHART / "README.md").read_text(), re.MULTILINE))
    assert table == dict(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))


def leaves(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for name, value in values.items():
        if isinstance(value, dict) and value:
            found += leaves(value, f"{prefix}{name}.")
        else:
            plain = isinstance(value, str) and value
            found.append((f"{prefix}{name}", value if plain else json.dumps(value)))
    return found


def test_nothing_in_it_is_random(render: Render) -> None:
    settings = ("namespaces={shop}", "metrics.serviceMonitor.enabled=true")
    assert render(*settings) == render(*settings)
