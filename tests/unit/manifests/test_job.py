"""Mover Jobs, as YAML that a reviewer reads, and what must hold for every one of them.

`LOWTIDE_WRITE_GOLDEN=1 pytest tests/unit/manifests` writes the files anew: look at their difference before you commit.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from lowtide_operator.api.mover import Mover, MoverSecurityContext
from lowtide_operator.api.repository import CaBundle, Repository
from lowtide_operator.api.stream import ResolvedStream
from lowtide_operator.cluster.connection import SERVICE_ACCOUNT
from lowtide_operator.manifests import mover_job
from lowtide_operator.manifests.command import container_arguments
from lowtide_operator.manifests.copies import copy_claim, group_snapshot, volume_snapshot
from lowtide_operator.planning.actions import CreateGroupSnapshot, CreateVolumeSnapshot, MoverJob, Purpose
from lowtide_operator.planning.movers import as_identity, consumer_identity
from lowtide_operator.planning.observed import Meta, Uid, World
from lowtide_operator.planning.observed_pods import Identity, Pod
from lowtide_operator.stream import parse as parse_stream
from tests.unit.manifests.cases import APP, CASES, COPIES, INSTALLATION, STREAM, job

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_as_the_golden_file_says(name: str) -> None:
    agrees_with_golden(name, copy_manifest(name))


def agrees_with_golden(name: str, manifest: dict[str, Any]) -> None:
    path = GOLDEN / f"{name}.yaml"
    text = yaml.safe_dump(manifest, sort_keys=False, width=120)
    if os.environ.get("LOWTIDE_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def copy_manifest(name: str) -> dict[str, Any]:
    wanted = COPIES[name]
    if isinstance(wanted, CreateGroupSnapshot):
        return group_snapshot(wanted)
    return volume_snapshot(wanted) if isinstance(wanted, CreateVolumeSnapshot) else copy_claim(wanted)


def built(job: MoverJob) -> dict[str, Any]:
    return mover_job(job, INSTALLATION)


def pod(job: MoverJob) -> dict[str, Any]:
    return built(job)["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def container(job: MoverJob) -> dict[str, Any]:
    mover, *others = pod(job)["containers"]
    assert (mover["name"], [other["name"] for other in others]) == ("mover", ["writer"] if job.stream else [])
    return mover  # type: ignore[no-any-return]


every_job = pytest.mark.parametrize("job", CASES.values(), ids=CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_job_is_as_the_golden_file_says(name: str) -> None:
    agrees_with_golden(name, built(CASES[name]))


def test_there_is_no_golden_file_that_nothing_writes() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {*CASES, *COPIES, "hook", "release"}


@every_job
def test_a_job_runs_once_and_keeps_its_result(job: MoverJob) -> None:
    spec = built(job)["spec"]
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert "ttlSecondsAfterFinished" not in spec
    assert pod(job)["restartPolicy"] == "Never"
    assert container(job)["terminationMessagePath"] == "/dev/termination-log"
    assert {"name": "LOWTIDE_RESULT_FILE", "value": "/dev/termination-log"} in container(job)["env"]


@every_job
def test_a_mover_can_neither_reach_the_api_nor_grow(job: MoverJob) -> None:
    body, only = pod(job), container(job)
    assert body["automountServiceAccountToken"] is False
    assert ("serviceAccountName" in body) is (job.stream is not None and job.stream.exec is not None)
    assert not any("serviceaccount" in mount["mountPath"] for mount in only["volumeMounts"])
    assert "nodeName" not in body
    assert body["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"]["allowPrivilegeEscalation"] is False
    assert only["securityContext"]["readOnlyRootFilesystem"] is True
    assert only["securityContext"]["capabilities"]["drop"] == ["ALL"]
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        assert key not in body


@every_job
def test_every_mount_has_its_volume_and_every_volume_its_mount(job: MoverJob) -> None:
    containers = pod(job)["containers"]
    used = [use["name"] for each in containers for use in (*each["volumeMounts"], *each.get("volumeDevices", ()))]
    assert sorted(set(used)) == sorted(volume["name"] for volume in pod(job)["volumes"])


def test_the_command_of_a_stream_sees_nothing_of_the_repository_nor_of_the_mover() -> None:
    repository = Repository(secret_name="backup", claim_name="vault", ca_bundle=CaBundle(secret_name="authorities"))
    body = pod(replace(CASES["stream"], repository=repository))
    _, writer = body["containers"]
    assert [source["secretRef"]["name"] for source in writer["envFrom"]] == ["db-dumper"]
    assert {mount["name"] for mount in writer["volumeMounts"]} == {"handover", "writer-scratch"}
    assert (body["automountServiceAccountToken"], body.get("shareProcessNamespace")) == (False, None)
    assert writer["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert body["securityContext"]["runAsNonRoot"] is True


def test_of_a_stream_from_a_running_pod_one_container_has_the_token_and_the_other_the_repository() -> None:
    repository = Repository(secret_name="backup", claim_name="vault", ca_bundle=CaBundle(secret_name="authorities"))
    body = pod(replace(CASES["stream-exec"], repository=repository))
    mover, writer = body["containers"]
    (token,) = (volume for volume in body["volumes"] if "projected" in volume)
    assert token["name"] not in {mount["name"] for mount in mover["volumeMounts"]}
    assert "envFrom" not in writer
    assert {mount["name"] for mount in writer["volumeMounts"]} == {"handover", "writer-scratch", token["name"]}
    assert [mount["mountPath"] for mount in writer["volumeMounts"] if mount["name"] == token["name"]] == [
        str(SERVICE_ACCOUNT)
    ]
    assert body["serviceAccountName"] == INSTALLATION.exec_account
    assert (body["automountServiceAccountToken"], body.get("shareProcessNamespace")) == (False, None)
    assert writer["securityContext"] == mover["securityContext"]
    assert body["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize(
    ("deadlines", "active", "patience"),
    [
        ({}, None, 120),
        ({"noProgress": "1m"}, None, 30),
        ({}, 90, 45),
    ],
)
def test_a_pod_is_not_waited_for_so_long_that_the_runs_own_deadlines_come_first(
    deadlines: dict[str, str], active: int | None, patience: int
) -> None:
    mover = Mover.model_validate({"deadlines": deadlines})
    _, writer = pod(replace(CASES["stream-exec"], mover=mover, active_deadline=active))["containers"]
    assert f"--patience={patience}" in writer["args"]


def test_a_stream_says_where_its_command_runs() -> None:
    with pytest.raises(ValueError, match="does not say where"):
        mover_job(replace(CASES["stream"], stream=ResolvedStream(name="shop.sql")), INSTALLATION)


def test_what_a_writers_arguments_say_is_what_its_program_reads() -> None:
    _, writer = pod(CASES["stream-exec"])["containers"]
    options = parse_stream(writer["args"])
    assert (options.handover, options.namespace, options.container) == ("/handover", "shop", "postgres")
    assert options.selector == "app=db,tier in (a,b)"
    assert options.command == ["sh", "-c", 'pg_dump -U "$$(whoami)" shop']


def test_a_copy_is_mounted_where_the_volume_would_be() -> None:
    reading = job(Purpose.BACKUP, "data", copy="lowtide-copy-1")
    (volume,) = (v for v in pod(reading)["volumes"] if v["name"] == "data")
    (mount,) = (m for m in container(reading)["volumeMounts"] if m["name"] == "data")
    assert volume["persistentVolumeClaim"] == {"claimName": "lowtide-copy-1", "readOnly": True}
    assert mount["mountPath"] == "/volumes/data"
    assert "/volumes/data" in container(reading)["args"]


@pytest.mark.parametrize("purpose", [Purpose.BACKUP])
def test_a_volume_that_is_only_read_is_mounted_so_that_nothing_can_change_it(purpose: Purpose) -> None:
    reading = job(purpose, "data", identity=APP)
    (volume,) = (v for v in pod(reading)["volumes"] if v["name"] == "data")
    (mount,) = (m for m in container(reading)["volumeMounts"] if m["name"] == "data")
    assert volume["persistentVolumeClaim"] == {"claimName": "data", "readOnly": True}
    assert mount == {"name": "data", "mountPath": "/volumes/data", "readOnly": True}


def test_a_block_volume_is_a_device_that_a_backup_can_only_read() -> None:
    reading, writing = CASES["backup-block"], CASES["restore-block"]
    for case, read_only in ((reading, True), (writing, None)):
        (volume,) = (v for v in pod(case)["volumes"] if v["name"] == "data")
        assert volume["persistentVolumeClaim"].get("readOnly") is read_only
        assert container(case)["volumeDevices"] == [{"name": "data", "devicePath": "/volumes/disk.img"}]
        assert "data" not in [mount["name"] for mount in container(case)["volumeMounts"]]
        assert "/volumes/disk.img" in container(case)["args"]


def test_a_device_is_opened_as_whoever_uses_it_and_else_as_root_without_any_right() -> None:
    for case in (CASES["backup-block"], replace(CASES["restore-block"], identity=None)):
        assert (pod(case)["securityContext"]["runAsUser"], pod(case)["securityContext"]["runAsNonRoot"]) == (0, False)
        assert container(case)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    known = pod(CASES["restore-block"])["securityContext"]
    assert (known["runAsUser"], known["supplementalGroups"], "fsGroup" in known) == (1000, [2000, 3000], False)


def test_a_backup_never_lets_the_kubelet_change_the_groups_of_files() -> None:
    """fsGroup does that. The consumer's becomes a further group; so does the one of a repository on a claim."""
    vault = Repository(secret_name="backup", claim_name="vault")
    for case in (job(Purpose.BACKUP, "data", identity=APP), job(Purpose.BACKUP, "data", repository=vault)):
        assert "fsGroup" not in pod(case)["securityContext"]
    context = pod(job(Purpose.BACKUP, "data", identity=APP, repository=vault))["securityContext"]
    assert context["supplementalGroups"] == [2000, 3000, 65532]


def test_movers_without_a_volume_prepare_the_repository_on_a_claim_for_all_others() -> None:
    vault = Repository(secret_name="backup", claim_name="vault")
    context = pod(job(Purpose.PREFLIGHT, repository=vault))["securityContext"]
    assert (context["fsGroup"], context["fsGroupChangePolicy"]) == (65532, "OnRootMismatch")


def test_a_mover_is_whom_the_consumer_is_unless_the_policy_says_otherwise() -> None:
    context = pod(job(Purpose.BACKUP, "data", identity=APP))["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (1000, 1000, True)
    own = Mover.model_validate({"securityContext": {"runAsUser": 7, "supplementalGroups": []}})
    context = pod(job(Purpose.BACKUP, "data", identity=APP, mover=own))["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (7, 1000)
    assert context["supplementalGroups"] == [2000]


def test_a_consumer_that_is_root_gets_a_mover_that_is_root_without_capabilities() -> None:
    case = job(Purpose.BACKUP, "data", identity=Identity(user=0))
    assert pod(case)["securityContext"]["runAsNonRoot"] is False
    assert pod(case)["securityContext"]["runAsGroup"] == 0
    assert container(case)["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_elevated_counts_only_where_the_namespace_allows_it_and_only_for_movers_of_volumes() -> None:
    mover = Mover.model_validate({"privilege": "Elevated"})
    added = {
        purpose: container(
            job(purpose, "data", mover=mover, elevated_allowed=True, snapshot_ids=("f" * 64,), path="/x", stream=STREAM)
        )["securityContext"]["capabilities"].get("add")
        for purpose in set(Purpose) - {Purpose.BEFORE_HOOK, Purpose.AFTER_HOOK}
    }
    assert added.pop(Purpose.BACKUP) == ["DAC_READ_SEARCH"]
    assert added.pop(Purpose.RESTORE) == ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETFCAP"]
    assert set(added.values()) == {None}
    refused = job(Purpose.BACKUP, "data", mover=mover, elevated_allowed=False)
    assert "add" not in container(refused)["securityContext"]["capabilities"]
    assert pod(refused)["securityContext"]["runAsUser"] == 65532


def test_a_restore_has_the_consumers_group_of_files_and_invents_none() -> None:
    writing = job(Purpose.RESTORE, "data", writes=True, snapshot_ids=("f" * 64,), path="/x", identity=APP)
    assert pod(writing)["securityContext"]["fsGroup"] == 2000
    for identity in (Identity(user=1000), Identity(), None):
        assert "fsGroup" not in pod(replace(writing, identity=identity))["securityContext"]


def test_a_restore_into_a_new_claim_has_a_group_to_write_with() -> None:
    """The root of a new volume belongs to root."""
    writing = job(Purpose.RESTORE, "data", writes=True, fresh=True, snapshot_ids=("f" * 64,), path="/x", identity=APP)
    groups = {
        identity: pod(replace(writing, identity=identity))["securityContext"].get("fsGroup")
        for identity in (APP, Identity(user=1000, group=1001), Identity(user=1000), Identity(user=0), None)
    }
    assert list(groups.values()) == [2000, 1001, 65532, None, 65532]


def test_the_consumers_selinux_level_is_the_movers() -> None:
    case = job(Purpose.BACKUP, "data", identity=replace(APP, se_linux_level="s0:c1,c2"))
    assert pod(case)["securityContext"]["seLinuxOptions"] == {"level": "s0:c1,c2"}
    own = replace(case, mover=Mover.model_validate({"securityContext": {"seLinuxLevel": "s0:c9"}}))
    assert pod(own)["securityContext"]["seLinuxOptions"] == {"level": "s0:c9"}
    assert "seLinuxOptions" not in pod(replace(own, claim="", purpose=Purpose.FORGET))["securityContext"]


def test_nothing_of_the_consumers_identity_is_lost_in_the_status() -> None:
    whole = Identity(user=1000, group=1001, fs_group=2000, supplemental_groups=(3000,), se_linux_level="s0:c1,c2")
    world = World(
        "shop",
        pods=(
            Pod(
                meta=Meta("shop", "db-0", Uid("u"), "1", datetime(2026, 1, 1, tzinfo=UTC)),
                phase="Running",
                claims=("data",),
                identity=whole,
            ),
        ),
    )
    stored = MoverSecurityContext.model_validate(consumer_identity("data", world).to_body())
    assert as_identity(stored) == whole


def test_a_lock_names_its_pod_and_a_secret_can_not_change_that() -> None:
    env = container(CASES["backup"])["env"]
    names = [variable["name"] for variable in env]
    holder = env[names.index("LOWTIDE_HOLDER")]["value"]
    assert holder == f"{INSTALLATION.cluster_uid}.shop.$(LOWTIDE_POD_UID)"
    assert names.index("LOWTIDE_POD_UID") < names.index("LOWTIDE_HOLDER"), "Kubernetes expands what stands before"


def test_the_repository_on_a_claim_is_where_the_movers_look() -> None:
    only = container(CASES["verdict"])
    assert {"name": "RESTIC_REPOSITORY", "value": "/repository"} in only["env"]
    assert {"name": "repository", "mountPath": "/repository"} in only["volumeMounts"]


def test_a_limit_below_the_default_request_is_the_request() -> None:
    mover = Mover.model_validate({"resources": {"limits": {"memory": "128Mi"}}})
    assert container(job(Purpose.FORGET, mover=mover))["resources"] == {
        "requests": {"cpu": "100m"},
        "limits": {"memory": "128Mi"},
    }


def test_kubernetes_expands_nothing_in_what_a_person_wrote() -> None:
    assert container_arguments(["$(RESTIC_PASSWORD)", "a$b", "$$(X)", "plain"]) == [
        "$$(RESTIC_PASSWORD)",
        "a$$b",
        "$$$$(X)",
        "plain",
    ]
    assert "$$(RESTIC_PASSWORD)" in container(CASES["restore-mirror"])["args"]


def test_a_pattern_that_looks_like_an_option_is_none() -> None:
    assert "--exclude=-tmp" in container(CASES["restore-mirror"])["args"]


def test_labels_of_a_policy_never_replace_our_own() -> None:
    mover = Mover(labels={"app.kubernetes.io/name": "disguise", "network": "backup"})
    labels = built(job(Purpose.FORGET, mover=mover))["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "lowtide"
    assert labels["network"] == "backup"
