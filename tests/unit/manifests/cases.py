"""One mover Job of every kind, and a release pod's, as a planner asks for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from lowtide_operator.api.mover import CopiedToleration, Mover
from lowtide_operator.api.repository import CaBundle, Repository
from lowtide_operator.api.stream import ResolvedExec, ResolvedStream
from lowtide_operator.manifests import Installation, ReleasePods
from lowtide_operator.planning import naming
from lowtide_operator.planning.actions import (
    CreateCopy,
    CreateGroupSnapshot,
    CreateVolumeSnapshot,
    HookJob,
    MoverJob,
    Placement,
    Purpose,
    Ref,
    ReleaseJob,
)
from lowtide_operator.planning.observed import Uid
from lowtide_operator.planning.observed_pods import Identity
from tests.unit.api import examples

INSTALLATION = Installation(image="registry.example/lowtide:1.2.3", cluster_uid="0a1b2c3d-0000-4000-8000-000000000000")
RUN = Uid("11111111-2222-4333-8444-555555555555")
SNAPSHOT_ID = "0123abcd" * 8
REPOSITORY_ID = "ab" * 32
RELEASE_PODS = ReleasePods("lowtide", "lowtide-release")
RELEASE = ReleaseJob(
    naming.release_name(Uid("uid-1"), 1),
    Ref("lowtide.dev/v1alpha1", "Snapshot", "shop", "nightly-1", Uid("uid-1")),
    datetime(2026, 1, 5, 3, 30, tzinfo=UTC),
)
OWNER = Ref("lowtide.dev/v1alpha1", "Snapshot", "shop", "shop-202611250200", RUN)

HOOK = HookJob(
    namespace="shop",
    name=naming.job_name(Purpose.BEFORE_HOOK, RUN, "", 1, role="before-1"),
    purpose=Purpose.BEFORE_HOOK,
    owner=OWNER,
    labels=naming.job_labels(Purpose.BEFORE_HOOK, RUN, "Snapshot", "shop", 1),
    hook="before-1",
    selector="app=db,tier in (a,b)",
    container="db",
    command=("sh", "-c", "kill -HUP $(pidof db)"),
    timeout=30,
    active_deadline=690,
)


def job(purpose: Purpose, claim: str = "", kind: str = "Snapshot", **fields: object) -> MoverJob:
    """A Job of a run in the namespace `shop`, with nothing set but what every Job has."""
    plain = MoverJob(
        namespace="shop",
        name=naming.job_name(purpose, RUN, claim, 1),
        purpose=purpose,
        owner=replace(OWNER, kind=kind),
        labels=naming.job_labels(purpose, RUN, kind, "shop", 1),
        repository=Repository(secret_name="backup"),
        mover=Mover(),
        claim=claim,
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def tags(claim: str = "") -> tuple[str, ...]:
    return naming.run_tags(INSTALLATION.cluster_uid, "shop", "shop", RUN, claim)


APP = Identity(user=1000, group=1000, fs_group=2000, supplemental_groups=(3000,))

EXEC_STREAM = ResolvedStream(
    name="shop.sql",
    exec=ResolvedExec(
        selector="app=db,tier in (a,b)", container="postgres", command=("sh", "-c", 'pg_dump -U "$(whoami)" shop')
    ),
)
STREAM = ResolvedStream.model_validate(examples.GOOD["a policy of streams"]["spec"]["streams"][0])

CASES: dict[str, MoverJob] = {
    "preflight": job(Purpose.PREFLIGHT, create=True, active_deadline=600),
    "preflight-restore": job(
        Purpose.PREFLIGHT, kind="Restore", repository_id=REPOSITORY_ID, snapshot_ids=(SNAPSHOT_ID, "f" * 64)
    ),
    "backup": job(
        Purpose.BACKUP,
        "data",
        repository_id=REPOSITORY_ID,
        host="shop",
        tags=(*tags("data"), "before the upgrade"),
        parent_tags=naming.parent_tags(INSTALLATION.cluster_uid, "shop", "shop", "data"),
        identity=APP,
        active_deadline=1500,
        placement=Placement(required_nodes=("node-1",)),
        dead_holders=(f"{INSTALLATION.cluster_uid}.shop.66666666-2222-4333-8444-555555555555",),
    ),
    "backup-elevated-everything": job(
        Purpose.BACKUP,
        "data",
        host="shop",
        tags=tags("data"),
        repository=Repository(
            secret_name="backup",
            claim_name="vault",
            ca_bundle=CaBundle(config_map_name="authorities", key="bundle.pem"),
        ),
        mover=Mover.model_validate(examples.GOOD["a policy with everything"]["spec"]["mover"]),
        elevated_allowed=True,
        identity=APP,
        tolerations=(
            CopiedToleration(key="gpu", operator="Exists"),
            CopiedToleration(key="storage", operator="Equal", value="true", effect="NoSchedule"),
        ),
        placement=Placement(preferred_nodes=("node-1", "node-2")),
    ),
    "backup-copy": job(
        Purpose.BACKUP,
        "data",
        copy=naming.copy_name(RUN, "data"),
        host="shop",
        tags=tags("data"),
        identity=APP,
        placement=Placement(
            required_terms=(
                {"matchExpressions": [{"key": "topology.csi.example/zone", "operator": "In", "values": ["a"]}]},
            ),
            spread=True,
        ),
    ),
    "stream": job(
        Purpose.STREAM,
        repository_id=REPOSITORY_ID,
        host="shop",
        tags=(*naming.run_tags(INSTALLATION.cluster_uid, "shop", "shop", RUN, stream="shop.sql"), "before the upgrade"),
        stream=STREAM,
        active_deadline=7200,
    ),
    "stream-exec": job(
        Purpose.STREAM,
        repository_id=REPOSITORY_ID,
        host="shop",
        tags=naming.run_tags(INSTALLATION.cluster_uid, "shop", "shop", RUN, stream="shop.sql"),
        stream=EXEC_STREAM,
        active_deadline=7200,
    ),
    "backup-block": job(
        Purpose.BACKUP, "disk", block=True, host="shop", tags=tags("disk"), identity=Identity(), active_deadline=1500
    ),
    "restore-block": job(
        Purpose.RESTORE,
        "disk",
        kind="Restore",
        block=True,
        writes=True,
        delete=True,
        fresh=True,
        snapshot_ids=(SNAPSHOT_ID,),
        path="/volumes/disk.img",
        identity=APP,
    ),
    "lookup": job(Purpose.LOOKUP, tags=tags("data"), repository_id=REPOSITORY_ID),
    "verdict": job(
        Purpose.VERDICT,
        host="shop",
        tags=(*tags(), "before the upgrade"),
        snapshot_ids=(SNAPSHOT_ID, "f" * 64),
        repository=Repository(secret_name="backup", claim_name="vault"),
    ),
    "forget": job(Purpose.FORGET, snapshot_ids=(SNAPSHOT_ID, "f" * 64), repository_id=REPOSITORY_ID),
    "restore-mirror": job(
        Purpose.RESTORE,
        "data",
        kind="Restore",
        writes=True,
        delete=True,
        snapshot_ids=(SNAPSHOT_ID,),
        path="/volumes/data",
        repository_id=REPOSITORY_ID,
        identity=APP,
        include=("/wal", "$(RESTIC_PASSWORD)"),
        exclude=("-tmp",),
    ),
    "restore-elevated": job(
        Purpose.RESTORE,
        "data",
        kind="Restore",
        writes=True,
        snapshot_ids=(SNAPSHOT_ID,),
        path="/volumes/data",
        mover=Mover.model_validate({"privilege": "Elevated"}),
        elevated_allowed=True,
        identity=APP,
        repository=Repository(secret_name="backup", ca_bundle=CaBundle(secret_name="authorities")),
    ),
    "preflight-of-a-server": job(
        Purpose.PREFLIGHT,
        repository=Repository(
            secret_name="backup",
            ssh_secret_name="keeper",
            client_certificate_secret_name="mover",
            options={"sftp.connections": "3", "s3.storage-class": "STANDARD_IA"},
            limit_upload=10240,
            limit_download=20480,
        ),
    ),
}
"""By the name of the file in golden/."""

COPY = naming.copy_name(RUN, "data")
COPY_LABELS = naming.copy_labels(RUN, "shop")

COPIES: dict[str, CreateVolumeSnapshot | CreateGroupSnapshot | CreateCopy] = {
    "copy-snapshot": CreateVolumeSnapshot("shop", COPY, COPY_LABELS, OWNER, "data", "fast-snapshots"),
    "copy-group": CreateGroupSnapshot(
        "shop",
        naming.group_snapshot_name(RUN),
        COPY_LABELS,
        OWNER,
        {naming.GROUP_SNAPSHOT_LABEL: RUN},
        "fast-groups",
    ),
    "copy-claim": CreateCopy(
        "shop", COPY, COPY_LABELS, OWNER, "data", "1100Mi", ("ReadWriteOncePod",), "fast", snapshot=COPY
    ),
    "copy-block": CreateCopy(
        "shop", COPY, COPY_LABELS, OWNER, "disk", "1Gi", ("ReadWriteOnce",), "fast", snapshot=COPY, block=True
    ),
    "copy-clone": CreateCopy(
        "shop", COPY, COPY_LABELS, OWNER, "data", "1Gi", ("ReadWriteOnce",), "local", node="node-1"
    ),
}
