"""Objects of every kind that are good, and statuses in which every field is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from lowtide_operator.api import API_VERSION, BackupPolicyStatus, Condition, RestoreStatus, SnapshotStatus, Truth
from lowtide_operator.api.hooks import HookOutcome, HookStatus, OnError, ResolvedHook
from lowtide_operator.api.jobs import Failure, JobOutcome, JobRecord
from lowtide_operator.api.model import Model
from lowtide_operator.api.mover import CopiedToleration, Mover, MoverSecurityContext
from lowtide_operator.api.policy import Capture, CaptureMethod, SnapshotCounts
from lowtide_operator.api.quiesce import (
    ArmedRelease,
    HeldState,
    LedgerEntry,
    Quiesce,
    QuiesceLedger,
    Switch,
    WorkloadKind,
    WorkloadRef,
)
from lowtide_operator.api.repository import CaBundle, Repository
from lowtide_operator.api.restore import ResolvedRestore, ResolvedRestoreVolume, RestoreVolumeStatus
from lowtide_operator.api.snapshot import (
    CopyRecord,
    GroupSnapshotRecord,
    Progress,
    Resolved,
    ResolvedCopy,
    ResolvedVolume,
    StreamStatus,
    VolumeOutcome,
    VolumeStatus,
)
from lowtide_operator.api.stream import ResolvedExec, ResolvedStream


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


GOOD: dict[str, dict[str, Any]] = {
    "the smallest policy": _object(
        "BackupPolicy",
        "shop",
        {
            "repository": {"secretName": "backup"},
            "volumes": {"claims": ["data"]},
            "capture": {"method": "Direct"},
        },
    ),
    "a policy for a server": _object(
        "BackupPolicy",
        "far",
        {
            "repository": {
                "secretName": "backup",
                "sshSecretName": "keeper",
                "clientCertificateSecretName": "mover",
                "options": {"sftp.connections": "3", "s3.storage-class": "STANDARD_IA"},
                "limitUpload": 10240,
                "limitDownload": 20480,
            },
            "volumes": {"claims": ["data"]},
            "capture": {"method": "Direct"},
        },
    ),
    "a policy with everything": _object(
        "BackupPolicy",
        "p" * 40,
        {
            "repository": {
                "secretName": "backup",
                "claimName": "vault",
                "caBundle": {"configMapName": "authorities", "key": "bundle.pem"},
            },
            "schedule": "H H(1-4) * * 1-5",
            "timeZone": "America/Argentina/Buenos_Aires",
            "startingDeadline": "1h30m",
            "suspend": True,
            "concurrency": "Forbid",
            "volumes": {
                "selector": {
                    "matchLabels": {"app.kubernetes.io/name": "shop"},
                    "matchExpressions": [
                        {"key": "tier", "operator": "In", "values": ["db", "web"]},
                        {"key": "scratch", "operator": "DoesNotExist"},
                    ],
                },
                "exclude": ["cache-0"],
            },
            "capture": {
                "method": "Snapshot",
                "volumeSnapshotClassName": "fast-snapshots",
                "storageClassName": "fast",
                "timeout": "2m",
            },
            "quiesce": {
                "strategy": "ScaleDown",
                "workloads": [{"kind": "Deployment", "name": "web"}, {"kind": "CronJob", "name": "mailer"}],
                "timeout": "90s",
                "maxDowntime": "1h",
            },
            "hooks": {
                "before": [
                    {
                        "podSelector": {
                            "matchLabels": {"app": "db"},
                            "matchExpressions": [{"key": "role", "operator": "NotIn", "values": ["replica"]}],
                        },
                        "container": "postgres",
                        "command": ["psql", "-c", "CHECKPOINT"],
                        "timeout": "10m",
                        "onError": "Continue",
                    }
                ],
                "after": [
                    {"workload": {"kind": "Deployment", "name": "web"}, "command": ["sh", "-c", "rm /tmp/closed"]}
                ],
            },
            "snapshotDeletionPolicy": "Delete",
            "mover": {
                "resources": {"requests": {"cpu": 1, "memory": "256Mi"}, "limits": {"memory": "1.5Gi"}},
                "privilege": "Elevated",
                "securityContext": {
                    "runAsUser": 999,
                    "runAsGroup": 0,
                    "supplementalGroups": [1, 2],
                    "fsGroup": 999,
                    "seLinuxLevel": "s0:c1,c2",
                },
                "nodeSelector": {"kubernetes.io/arch": "amd64"},
                "tolerations": [
                    {"key": "storage", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
                    {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
                ],
                "labels": {"network": "backup"},
                "cache": {"sizeLimit": "10Gi"},
                "deadlines": {"start": "5m", "noProgress": "10m", "whole": "8h"},
                "retry": {"limit": 5, "backoff": "2m"},
                "allowPartial": True,
            },
        },
    ),
    "a policy of streams": _object(
        "BackupPolicy",
        "dumps",
        {
            "repository": {"secretName": "backup"},
            "streams": [
                {
                    "name": "shop.sql",
                    "container": {
                        "image": "postgres:16",
                        "command": ["pg_dump", "--host", "db", "$(PGDATABASE)"],
                        "secretName": "db-dumper",
                        "resources": {"limits": {"memory": "1Gi"}},
                    },
                    "timeout": "2h",
                },
                {"name": "Roles_1", "container": {"image": "postgres:16", "command": ["pg_dumpall", "--roles-only"]}},
                {
                    "name": "wiki.sql",
                    "exec": {
                        "podSelector": {
                            "matchLabels": {"app": "wiki"},
                            "matchExpressions": [{"key": "role", "operator": "In", "values": ["primary"]}],
                        },
                        "container": "postgres",
                        "command": ["pg_dump", "-U", "postgres", "wiki"],
                    },
                    "timeout": "30m",
                },
                {
                    "name": "blog.sql",
                    "exec": {"workload": {"kind": "StatefulSet", "name": "blog"}, "command": ["mariadb-dump", "blog"]},
                },
            ],
        },
    ),
    "a policy by a schedule's name": _object(
        "BackupPolicy",
        "nightly",
        {
            "repository": {"secretName": "backup"},
            "schedule": "@daily",
            "volumes": {"claims": ["a", "b"]},
            "capture": {"method": "Direct"},
            "quiesce": {"strategy": "None"},
        },
    ),
    "the smallest snapshot": _object("Snapshot", "before-upgrade", {"policyName": "shop"}),
    "a snapshot with everything": _object(
        "Snapshot",
        "shop-202611250200",
        {
            "policyName": "shop",
            "origin": "Manual",
            "deletionPolicy": "Delete",
            "pinned": True,
            "tags": ["before the upgrade", "ticket-42"],
        },
    ),
    "the smallest restore": _object(
        "Restore",
        "back",
        {
            "source": {"snapshotName": "shop-202611250200"},
            "volumes": [{"claim": "data"}],
            "overwrite": "Mirror",
        },
    ),
    "a restore through a policy": _object(
        "Restore",
        "as-of",
        {
            "source": {"policy": {"name": "shop", "asOf": "2026-11-24T12:00:00+01:00", "offset": 1}},
            "volumes": [
                {
                    "claim": "data",
                    "newClaim": {
                        "name": "data-copy",
                        "storageClassName": "fast",
                        "size": "10Gi",
                        "accessModes": ["ReadWriteOnce"],
                    },
                },
                {"claim": "other", "path": "/volumes/other/sub"},
            ],
            "include": ["/wal"],
            "exclude": ["*.tmp"],
            "overwrite": "Merge",
            "partialGroup": "Allow",
            "safetySnapshot": "Skip",
            "quiesce": {"timeout": "2m"},
            "mover": {"privilege": "Elevated"},
        },
    ),
    "a restore from a foreign repository": _object(
        "Restore",
        "adopt",
        {
            "source": {"repository": {"secretName": "volsync", "id": "0123abcd"}},
            "volumes": [{"claim": "data", "path": "/"}],
            "overwrite": "Merge",
        },
    ),
    "a restore of what a host last backed up": _object(
        "Restore",
        "by-host",
        {
            "source": {
                "repository": {
                    "secretName": "k8up",
                    "host": "shop",
                    "path": "/data/shop",
                    "tags": ["daily"],
                    "asOf": "2026-11-24T12:00:00Z",
                }
            },
            "volumes": [{"claim": "data", "newClaim": {"name": "fresh", "size": 1073741824}, "path": "/data/shop"}],
            "overwrite": "Mirror",
        },
    ),
}
"""By what they show. They are accepted by the models and by an API server alike."""

_THEN = datetime(2026, 11, 25, 2, 0, tzinfo=UTC)
_CONDITION = Condition(
    type="Ready",
    status=Truth.TRUE,
    reason="Stored",
    message="All volumes are stored.",
    last_transition_time=_THEN,
    observed_generation=1,
)
_REPOSITORY = Repository(
    secret_name="backup",
    claim_name="vault",
    ca_bundle=CaBundle(config_map_name="authorities"),
)
_LEDGER = QuiesceLedger(
    attempt=2,
    deadline=_THEN + timedelta(minutes=30),
    start_time=_THEN,
    gone_time=_THEN,
    released_time=_THEN,
    ready_time=_THEN,
    workloads=(
        LedgerEntry(
            api_version="apps/v1",
            kind="StatefulSet",
            namespace="elsewhere",
            name="db",
            uid="5d3f",
            order=1,
            replicas=3,
            switches=(Switch(annotation="a/on", value="no"), Switch(annotation="a/paused")),
            state=HeldState.RELEASED,
            generation_held=7,
            held_at=_THEN,
            released_at=_THEN,
            message="put back",
        ),
        LedgerEntry(
            api_version="batch/v1",
            kind="CronJob",
            name="db",
            uid="6e4a",
            suspend=False,
        ),
    ),
)
_TOLERATIONS = (
    CopiedToleration(key="storage", operator="Equal", value="true", effect="NoExecute", toleration_seconds=60),
)
_IDENTITY = MoverSecurityContext(
    run_as_user=999, run_as_group=0, supplemental_groups=(1, 2), fs_group=999, se_linux_level="s0:c1,c2"
)
_JOBS = (
    JobRecord(
        name="lowtide-backup-0123456789-1",
        purpose="backup",
        claim="data",
        role="safety",
        attempt=1,
        created_at=_THEN,
        uid="99",
        ended_at=_THEN,
        pod_uid="pod-uid-1",
        outcome=JobOutcome.PARTIAL,
        reason="FilesUnreadable",
        message="2 files could not be read.",
        snapshot_ids=("0123abcd" * 8,),
    ),
    JobRecord(name="lowtide-verdict-0123456789-1", purpose="verdict", attempt=1, created_at=_THEN),
)
_RELEASE = ArmedRelease(
    name="lowtide-release-0123456789-2", attempt=2, created_at=_THEN, deadline=_THEN, missing_since=_THEN
)
_FAILURE = Failure(reason="PodsRemain", message="Pod db-0 did not go.", time=_THEN)
_VOLUME: dict[str, Any] = {
    "claim": "data",
    "outcome": VolumeOutcome.PARTIAL,
    "reason": "FilesUnreadable",
    "message": "2 files could not be read.",
    "attempt": 2,
    "snapshot_id": "0123abcd" * 8,
    "files": 200000,
    "bytes": 2**53,
    "added_bytes": 0,
    "seconds": 61,
    "errors": 2,
    "warnings": ("a: permission denied", "a: permission denied"),
    "progress": Progress(files=1, bytes=2, total_bytes=3, percent=66, updated_at=_THEN),
}

STATUS: dict[str, Model] = {
    "a policy with everything": BackupPolicyStatus(
        observed_generation=1,
        conditions=(_CONDITION,),
        last_schedule_time=_THEN,
        next_schedule_time=_THEN + timedelta(days=1),
        resumed_at=_THEN,
        last_snapshot="shop-202611250200",
        last_successful_time=_THEN,
        consecutive_failures=3,
        repository_id="ab" * 32,
        snapshots=SnapshotCounts(total=5, ready=4, failed=1),
    ),
    "a snapshot with everything": SnapshotStatus(
        observed_generation=1,
        conditions=(_CONDITION,),
        resolved=Resolved(
            policy_uid="77",
            policy_generation=4,
            start_by=_THEN,
            repository=_REPOSITORY,
            repository_id="ab" * 32,
            known_repository_id="ab" * 32,
            volumes=(
                ResolvedVolume(
                    claim="data",
                    uid="88",
                    volume_name="pv-1",
                    identity=_IDENTITY,
                    tolerations=_TOLERATIONS,
                    copied=ResolvedCopy(snapshot_class_name="fast-snapshots", storage_class_name="fast", node="node-1"),
                ),
            ),
            capture=Capture(
                method=CaptureMethod.GROUP_SNAPSHOT,
                volume_group_snapshot_class_name="fast-groups",
                storage_class_name="fast",
            ),
            streams=(
                ResolvedStream.model_validate(GOOD["a policy of streams"]["spec"]["streams"][0]),
                ResolvedStream(
                    name="wiki.sql",
                    exec=ResolvedExec(
                        selector="app=wiki,role in (primary)", container="postgres", command=("pg_dump",)
                    ),
                ),
            ),
            quiesce=Quiesce(workloads=(WorkloadRef(kind=WorkloadKind.DEPLOYMENT, name="web"),)),
            hooks=(
                ResolvedHook(
                    name="before-1",
                    selector="app=db,role notin (replica)",
                    container="postgres",
                    command=("psql", "-c", "CHECKPOINT"),
                    timeout=timedelta(minutes=10),
                    on_error=OnError.CONTINUE,
                ),
            ),
            mover=Mover.model_validate(GOOD["a policy with everything"]["spec"]["mover"]),
        ),
        release=_RELEASE,
        quiesce=_LEDGER,
        hooks=(
            HookStatus(
                name="before-1",
                start_time=_THEN,
                end_time=_THEN,
                outcome=HookOutcome.FAILED,
                reason="CommandFailed",
                message="The command ended with exit code 3.",
            ),
        ),
        attempt=2,
        start_time=_THEN,
        end_time=_THEN,
        captured_time=_THEN,
        downtime=timedelta(seconds=123),
        upload=timedelta(seconds=4567),
        group_snapshot=GroupSnapshotRecord(name="lowtide-group-0123456789", asked_at=_THEN, uid="bb"),
        copies=(
            CopyRecord(
                claim="data",
                name="lowtide-copy-0123456789",
                snapshot_name="snapshot-0123",
                asked_at=_THEN,
                uid="99",
                ready_at=_THEN,
                size="1Gi",
                claimed_at=_THEN,
                claim_uid="aa",
            ),
        ),
        jobs=_JOBS,
        failure=_FAILURE,
        volumes=(VolumeStatus(**_VOLUME),),
        streams=(
            StreamStatus(
                name="shop.sql",
                outcome=VolumeOutcome.FAILED,
                reason="StreamFailed",
                message="The command failed with code 1.",
                attempt=2,
                snapshot_id="0123abcd" * 8,
                bytes=2**40,
                added_bytes=0,
                seconds=61,
                progress=Progress(files=0, bytes=2, total_bytes=3, percent=66, updated_at=_THEN),
            ),
        ),
        files=200000,
        bytes=2**53,
        added_bytes=0,
        verdict_snapshot_id="cd" * 32,
    ),
    "the smallest restore": RestoreStatus(
        observed_generation=1,
        conditions=(_CONDITION,),
        resolved=ResolvedRestore(
            snapshot_name="shop-202611250200",
            captured_time=_THEN,
            repository=_REPOSITORY,
            repository_id="ab" * 32,
            volumes=(
                ResolvedRestoreVolume(
                    claim="data",
                    target="data",
                    target_uid="88",
                    in_place=True,
                    snapshot_id="0123abcd" * 8,
                    path="/volumes/data",
                    size="1Gi",
                    identity=_IDENTITY,
                    tolerations=_TOLERATIONS,
                ),
            ),
        ),
        release=_RELEASE,
        quiesce=_LEDGER,
        attempt=1,
        start_time=_THEN,
        first_write_time=_THEN,
        end_time=_THEN,
        downtime=timedelta(),
        jobs=_JOBS,
        failure=_FAILURE,
        volumes=(RestoreVolumeStatus(**_VOLUME, safety_snapshot_id="ef" * 32),),
    ),
}
"""For some of GOOD, by the same key: statuses that leave no field out. tests/unit/api checks that."""
