"""The release pod's Job, as YAML that a reviewer reads, and what must hold for it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import yaml

from lowtide_operator.manifests import ReleasePods, release_job
from lowtide_operator.release import _parser
from tests.unit.manifests.cases import INSTALLATION, RELEASE, RELEASE_PODS
from tests.unit.manifests.test_job import GOLDEN


def pod(**scheduling: Any) -> dict[str, Any]:
    pods = ReleasePods(RELEASE_PODS.namespace, RELEASE_PODS.account, scheduling)
    return release_job(RELEASE, INSTALLATION, pods)["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def test_it_is_as_the_golden_file_says() -> None:
    path = GOLDEN / "release.yaml"
    text = yaml.safe_dump(release_job(RELEASE, INSTALLATION, RELEASE_PODS), sort_keys=False, width=120)
    if os.environ.get("LOWTIDE_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_only_its_work_ends_it_and_nothing_is_left_of_it() -> None:
    spec = release_job(RELEASE, INSTALLATION, RELEASE_PODS)["spec"]
    assert "activeDeadlineSeconds" not in spec
    assert spec["backoffLimit"] > 1000
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["template"]["spec"]["restartPolicy"] == "OnFailure"


def test_its_program_understands_its_arguments() -> None:
    (container,) = pod()["containers"]
    options = _parser().parse_args(container["args"])
    assert (options.kind, options.namespace, options.name, options.uid) == ("Snapshot", "shop", "nightly-1", "uid-1")
    assert options.until == RELEASE.deadline
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["exec"]["command"][-1] == options.armed_file


def test_it_is_scheduled_as_the_operator_is_and_better_on_another_node() -> None:
    own = {"key": "dedicated", "operator": "Exists"}
    body = pod(nodeSelector={"pool": "tools"}, tolerations=[own], priorityClassName="high")
    assert (body["nodeSelector"], body["priorityClassName"]) == ({"pool": "tools"}, "high")
    assert own in body["tolerations"]
    gone = {t["key"]: t["tolerationSeconds"] for t in body["tolerations"] if t is not own}
    assert set(gone) == {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    assert "podAntiAffinity" in body["affinity"]
    asked = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}
    assert pod(affinity=asked)["affinity"] == asked


def test_two_runs_of_one_name_have_two_labels() -> None:
    other = replace(RELEASE, run=replace(RELEASE.run, uid="uid-2"))
    labels = [
        release_job(job, INSTALLATION, RELEASE_PODS)["metadata"]["labels"]["lowtide.dev/release-of"]
        for job in (RELEASE, other)
    ]
    assert labels == ["uid-1", "uid-2"]
