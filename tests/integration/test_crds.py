"""The custom resource definitions, as a real API server takes them: what it accepts, what it refuses and in which
words, and that nothing which the operator writes is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lowtide_operator.api import API_VERSION, BackupPolicy, Restore, Snapshot, parse
from tests.cluster.controlplane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.waiting import wait_for
from tests.unit.api import examples, faults
from tests.unit.api.faults import POLICY, RESTORE, SNAPSHOT, changed

pytestmark = pytest.mark.apiserver

CRDS = Path(__file__).parents[2] / "crds"
NAMES = ("backuppolicies.lowtide.dev", "snapshots.lowtide.dev", "restores.lowtide.dev")
NAMESPACE = "tidal"


@pytest.fixture(scope="module")
def kubectl(control_plane: ControlPlane) -> Kubectl:
    """An API server that knows the kinds, and a namespace."""
    kubectl = control_plane.kubectl
    kubectl("apply", "--server-side", "-f", str(CRDS))
    for name in NAMES:
        kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for verb in (("get", "-n", NAMESPACE), ("explain",)):
        wait_for(
            f"kubectl {verb[0]} knows the kinds",
            lambda verb=verb: all(kubectl.run(*verb, name).returncode == 0 for name in NAMES),  # type: ignore[misc]
            within=60,
        )
    return kubectl


@pytest.fixture
def tidy(kubectl: Kubectl) -> Iterator[None]:
    """Nothing of ours is left for the next test."""
    yield
    kubectl("delete", ",".join(NAMES), "--all", "-n", NAMESPACE)


def create(kubectl: Kubectl, body: dict[str, Any], *flags: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        kubectl("create", "-n", NAMESPACE, "-f", "-", "-o", "json", *flags, stdin=json.dumps(body))
    )
    return answer


def refusal(kubectl: Kubectl, body: dict[str, Any], *flags: str) -> str:
    """What the API server says against `body`; fails where it takes it."""
    done = kubectl.run("create", "-n", NAMESPACE, "-f", "-", "--dry-run=server", *flags, stdin=json.dumps(body))
    assert done.returncode != 0, f"was accepted: {json.dumps(body['spec'])}"
    return done.stderr


def test_the_definitions_are_structural_and_served(kubectl: Kubectl) -> None:
    for name in NAMES:
        conditions = {item["type"]: item["status"] for item in kubectl.get("crd", name)["status"]["conditions"]}
        assert conditions["Established"] == "True"
        assert conditions["NamesAccepted"] == "True"
        assert "NonStructuralSchema" not in conditions


def test_short_names_category_and_explanations_reach_people(kubectl: Kubectl) -> None:
    listed = kubectl("api-resources", "--categories=lowtide", "--no-headers")
    assert {line.split()[1] for line in listed.splitlines()} == {"bp", "bsnap", "brestore"}
    for path in ("backuppolicies.spec.quiesce.maxDowntime", "snapshots.status.quiesce.workloads.generationHeld"):
        kind, _, field = path.partition(".")
        text = kubectl("explain", f"{kind}.lowtide.dev.{field}")
        assert "DESCRIPTION" in text
        assert "<no description>" not in text


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("body", examples.GOOD.values(), ids=examples.GOOD)
def test_good_objects_are_taken_without_a_warning_and_read_back_as_they_are(
    kubectl: Kubectl, body: dict[str, Any]
) -> None:
    stored = create(kubectl, body, "--validate=strict")
    model = {"BackupPolicy": BackupPolicy, "Snapshot": Snapshot, "Restore": Restore}[body["kind"]]
    ours = parse(model, body)
    theirs = parse(model, stored)
    assert theirs.spec == ours.spec, "the defaults of the server and of the model differ"


@pytest.mark.usefixtures("tidy")
def test_defaults_are_filled_in_by_the_server(kubectl: Kubectl) -> None:
    spec = create(kubectl, examples.GOOD["the smallest policy"])["spec"]
    assert spec["startingDeadline"] == "1h"
    assert spec["quiesce"] == {"strategy": "ScaleDown", "timeout": "5m", "maxDowntime": "30m"}
    assert spec["mover"]["deadlines"] == {"start": "10m", "noProgress": "15m", "whole": "24h"}
    assert spec["snapshotDeletionPolicy"] == "Retain"


@pytest.mark.parametrize(("base", "path", "value", "sentence"), faults.BAD.values(), ids=faults.BAD)
def test_bad_objects_are_refused_with_a_sentence(
    kubectl: Kubectl, base: str, path: str, value: Any, sentence: str
) -> None:
    assert sentence in refusal(kubectl, changed(examples.GOOD[base], path, value))


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.policyName", "other"),
        ("spec.origin", "Schedule"),
        ("spec.tags", ["another"]),
        ("spec.tags", ...),
    ],
    ids=["policyName", "origin", "tags", "tags removed"],
)
def test_what_a_snapshot_records_can_not_be_changed(kubectl: Kubectl, path: str, value: Any) -> None:
    stored = create(kubectl, examples.GOOD["a snapshot with everything"])
    done = kubectl.run("replace", "-f", "-", stdin=json.dumps(changed(stored, path, value)))
    assert done.returncode != 0
    assert "only pinned and deletionPolicy can be changed" in done.stderr


@pytest.mark.usefixtures("tidy")
def test_a_snapshot_can_be_pinned_and_given_another_deletion_policy(kubectl: Kubectl) -> None:
    stored = create(kubectl, examples.GOOD["the smallest snapshot"])
    body = changed(changed(stored, "spec.pinned", True), "spec.deletionPolicy", "Delete")
    kubectl("replace", "-f", "-", stdin=json.dumps(body))
    spec = kubectl.get("snapshots.lowtide.dev", stored["metadata"]["name"], "-n", NAMESPACE)["spec"]
    assert (spec["pinned"], spec["deletionPolicy"]) == (True, "Delete")


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.overwrite", "Merge"),
        ("spec.volumes.0.claim", "other"),
        ("spec.exclude", ["*.tmp"]),
        ("spec.mover.retry.limit", 0),
        ("spec.source.snapshotName", "other"),
    ],
    ids=["overwrite", "volumes", "a field that was absent", "a setting of movers", "source"],
)
def test_a_restore_can_not_be_changed(kubectl: Kubectl, path: str, value: Any) -> None:
    stored = create(kubectl, examples.GOOD["the smallest restore"])
    done = kubectl.run("replace", "-f", "-", stdin=json.dumps(changed(stored, path, value)))
    assert done.returncode != 0
    assert "a Restore runs once and can't be changed: make another one" in done.stderr


@pytest.mark.usefixtures("tidy")
def test_applying_a_restore_again_changes_nothing(kubectl: Kubectl) -> None:
    body = examples.GOOD["the smallest restore"]
    kubectl.apply(body, namespace=NAMESPACE)
    kubectl.apply(body, namespace=NAMESPACE)
    stored = kubectl.get("restores.lowtide.dev", body["metadata"]["name"], "-n", NAMESPACE)
    assert stored["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("base", "path"), [(POLICY, "spec.shedule"), (SNAPSHOT, "spec.pined"), (RESTORE, "spec.overwright")]
)
def test_a_misspelt_field_is_named(kubectl: Kubectl, base: str, path: str) -> None:
    assert f'unknown field "{path}"' in refusal(kubectl, changed(examples.GOOD[base], path, "x"), "--validate=strict")


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("base", examples.STATUS, ids=str)
def test_nothing_of_a_status_is_lost(kubectl: Kubectl, base: str) -> None:
    body = examples.GOOD[base]
    status = examples.STATUS[base]
    stored = create(kubectl, {**body, "status": status.to_body()})
    assert "status" not in stored, "a status is written through the subresource only"
    plural = f"{ {'BackupPolicy': 'backuppolicies', 'Snapshot': 'snapshots', 'Restore': 'restores'}[body['kind']] }"
    kubectl(
        *("replace", "--subresource=status", "--validate=strict", "-f", "-"),
        stdin=json.dumps({**stored, "status": status.to_body(), "spec": {}}),
    )
    after = kubectl.get(f"{plural}.lowtide.dev", body["metadata"]["name"], "-n", NAMESPACE)
    assert after["status"] == status.to_body()
    assert after["spec"] == stored["spec"], "writing a status must not touch the spec"
    assert after["metadata"]["generation"] == 1
    assert type(status).model_validate(after["status"]) == status


@pytest.mark.usefixtures("tidy")
def test_a_list_of_runs_tells_what_came_of_them(kubectl: Kubectl) -> None:
    body = examples.GOOD["a snapshot with everything"]
    stored = create(kubectl, body)
    status = examples.STATUS["a snapshot with everything"].to_body()
    kubectl("replace", "--subresource=status", "-f", "-", stdin=json.dumps({**stored, "status": status}))
    head, row = kubectl("get", "bsnap", "-n", NAMESPACE).splitlines()
    assert head.split() == ["NAME", "POLICY", "READY", "REASON", "DOWNTIME", "UPLOAD", "AGE"]
    assert row.split()[:6] == [body["metadata"]["name"], "shop", "True", "Stored", "2m3s", "1h16m7s"]


def test_examples_are_of_this_version() -> None:
    assert {body["apiVersion"] for body in examples.GOOD.values()} == {API_VERSION}
