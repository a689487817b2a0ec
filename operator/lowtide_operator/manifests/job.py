"""The Job of a mover.

A Job of ours runs once and is never modified: no retries of its own (a retry is a new attempt, decided by the planner),
no TTL (its result must be stored first), no pod in the place of one that is still going.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lowtide_engine.contract import RESULT_FILE_VARIABLE
from lowtide_operator.api.mover import Resources
from lowtide_operator.api.repository import CaBundle, Repository
from lowtide_operator.api.stream import ResolvedStream
from lowtide_operator.manifests import command, security
from lowtide_operator.manifests.stream import exec_container, handover_mount, stream_volumes, writer_container
from lowtide_operator.planning import naming
from lowtide_operator.planning.actions import HookJob, MoverJob, Placement

CONTAINER = "mover"
RESULT_FILE = "/dev/termination-log"
REPOSITORY_PATH = "/repository"
CACHE_PATH = "/cache"
SCRATCH_PATH = "/tmp"  # noqa: S108 - a mount of the mover's own, not a file in a shared folder
CA_FOLDER = "/etc/lowtide/ca"
CA_FILE = "ca.crt"
SSH_FOLDER = "/etc/lowtide/ssh"
CLIENT_CERTIFICATE_FOLDER = "/etc/lowtide/tls"
GRACE_SECONDS = 60
"""How long a mover that is told to stop may write down what it has: it needs about 20 s."""
SCRATCH_LIMIT = "256Mi"
DEFAULT_REQUESTS = {"cpu": "100m", "memory": "256Mi"}

LEFT_ALONE = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""Annotations by which node autoscalers leave a pod of ours alone: a run that is broken off costs downtime."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What is the same for all Jobs of an installation. `pull_policy` is empty to leave it to Kubernetes.
    `exec_account` is the service account, in the namespace of a run, that may execute commands in pods there."""

    image: str
    cluster_uid: str
    pull_policy: str = ""
    exec_account: str = "lowtide-exec"

    def image_fields(self) -> dict[str, str]:
        """The fields of a container that say which image it runs."""
        return {"image": self.image, **({"imagePullPolicy": self.pull_policy} if self.pull_policy else {})}


def mover_job(job: MoverJob, installation: Installation) -> dict[str, Any]:
    """The Job for `job`, ready to be created."""
    annotations = {naming.CLAIM_ANNOTATION: job.claim} if job.claim else {}
    return run_once(job, CONTAINER, _pod(job, installation), annotations=annotations, pod_labels=job.mover.labels)


def run_once(
    job: MoverJob | HookJob,
    component: str,
    pod: dict[str, Any],
    *,
    annotations: Mapping[str, str] = MappingProxyType({}),
    pod_labels: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """A Job of the run that runs `pod` once. `annotations` are those of the Job and its pod, `pod_labels` further ones
    of the pod."""
    labels = {"app.kubernetes.io/name": "lowtide", "app.kubernetes.io/component": component, **job.labels}
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "podReplacementPolicy": "Failed",
        "template": {
            "metadata": {"labels": {**pod_labels, **labels}, "annotations": {**annotations, **LEFT_ALONE}},
            "spec": pod,
        },
    }
    if job.active_deadline is not None:
        spec["activeDeadlineSeconds"] = job.active_deadline
    owner = job.owner
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job.name,
            "namespace": job.namespace,
            "labels": labels,
            **({"annotations": dict(annotations)} if annotations else {}),
            "ownerReferences": [
                {
                    "apiVersion": owner.api_version,
                    "kind": owner.kind,
                    "name": owner.name,
                    "uid": owner.uid,
                    "controller": True,
                }
            ],
        },
        "spec": spec,
    }


def _pod(job: MoverJob, installation: Installation) -> dict[str, Any]:
    volumes, mounts = _volumes(job)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": security.pod_context(job),
        "containers": [
            {
                "name": CONTAINER,
                **installation.image_fields(),
                "command": [command.PROGRAM],
                "args": command.container_arguments(command.arguments(job)),
                "envFrom": [{"secretRef": {"name": job.repository.secret_name}}],
                "env": _environment(job, installation),
                "resources": _resources(job.mover.resources),
                "securityContext": security.container_context(job),
                "terminationMessagePath": RESULT_FILE,
                "terminationMessagePolicy": "File",
                "volumeMounts": mounts,
                **({"volumeDevices": [{"name": "data", "devicePath": _data_path(job)}]} if job.block else {}),
            }
        ],
        "volumes": volumes,
    }
    if job.stream is not None:
        pod["containers"].append(_writer(job, job.stream, installation))
        if job.stream.exec is not None:
            pod["serviceAccountName"] = installation.exec_account
    if job.mover.node_selector:
        pod["nodeSelector"] = dict(job.mover.node_selector)
    if tolerations := _tolerations(job):
        pod["tolerations"] = tolerations
    if affinity := _affinity(job.placement):
        pod["affinity"] = {"nodeAffinity": affinity}
    if job.placement.spread:
        pod["topologySpreadConstraints"] = [_apart(job)]
    return pod


def _writer(job: MoverJob, stream: ResolvedStream, installation: Installation) -> dict[str, Any]:
    """The container that writes the stream."""
    if stream.exec is not None:
        return exec_container(job, stream.exec, installation.image_fields())
    if stream.container is not None:
        return writer_container(stream.container, _resources(stream.container.resources))
    raise ValueError(f"the Job {job.name} does not say where the command of its stream runs")


def _environment(job: MoverJob, installation: Installation) -> list[dict[str, Any]]:
    """Variables of our own; one that the Secret has too is ours."""
    values = {
        "LOWTIDE_HOLDER": f"{installation.cluster_uid}.{job.namespace}.$(LOWTIDE_POD_UID)",
        RESULT_FILE_VARIABLE: RESULT_FILE,
        "TZ": "UTC",
        "HOME": SCRATCH_PATH,
        "TMPDIR": SCRATCH_PATH,
        "XDG_CACHE_HOME": CACHE_PATH,
        "RESTIC_CACHE_DIR": CACHE_PATH,
    }
    if job.repository.claim_name is not None:
        values["RESTIC_REPOSITORY"] = REPOSITORY_PATH
    if job.repository.ca_bundle is not None:
        values["RESTIC_CACERT"] = f"{CA_FOLDER}/{CA_FILE}"
    if job.repository.ssh_secret_name is not None:
        values["LOWTIDE_SFTP_IDENTITY"] = f"{SSH_FOLDER}/ssh-privatekey"
        values["LOWTIDE_SFTP_KNOWN_HOSTS"] = f"{SSH_FOLDER}/known_hosts"
    if job.repository.client_certificate_secret_name is not None:
        values["RESTIC_TLS_CLIENT_CERT"] = CLIENT_CERTIFICATE_FOLDER
    return [
        {"name": "LOWTIDE_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        *({"name": name, "value": value} for name, value in values.items()),
    ]


def _resources(wanted: Resources) -> dict[str, Any]:
    limits = dict(wanted.limits)
    requests = {**_within(DEFAULT_REQUESTS, limits), **wanted.requests}
    return {"requests": requests, **({"limits": limits} if limits else {})}


def _within(requests: Mapping[str, str], limits: Mapping[str, str]) -> dict[str, str]:
    """The default requests, without those for which a limit is set: Kubernetes then requests the limit, which may be
    less."""
    return {name: value for name, value in requests.items() if name not in limits}


def _volumes(job: MoverJob) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The pod's volumes and the mounts of the mover's container, in the same order; a block volume is no mount."""
    volumes: list[dict[str, Any]] = [
        {"name": "cache", "emptyDir": {"sizeLimit": job.mover.cache.size_limit}},
        {"name": "scratch", "emptyDir": {"sizeLimit": SCRATCH_LIMIT}},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "cache", "mountPath": CACHE_PATH},
        {"name": "scratch", "mountPath": SCRATCH_PATH},
    ]
    if job.claim:
        source: dict[str, Any] = {"claimName": job.copy or job.claim}
        mount: dict[str, Any] = {"name": "data", "mountPath": _data_path(job)}
        if not job.writes:
            source["readOnly"] = mount["readOnly"] = True
        volumes.append({"name": "data", "persistentVolumeClaim": source})
        if not job.block:
            mounts.append(mount)
    if job.stream is not None:
        volumes += stream_volumes(job.stream)
        mounts.append(handover_mount())
    _add_repository(job.repository, volumes, mounts)
    return volumes, mounts


def _data_path(job: MoverJob) -> str:
    return naming.path_in_snapshot(job.claim, block=job.block)


def _add_repository(repository: Repository, volumes: list[dict[str, Any]], mounts: list[dict[str, Any]]) -> None:
    if repository.claim_name is not None:
        volumes.append({"name": "repository", "persistentVolumeClaim": {"claimName": repository.claim_name}})
        mounts.append({"name": "repository", "mountPath": REPOSITORY_PATH})
    if repository.ca_bundle is not None:
        volumes.append({"name": "ca", **_ca_source(repository.ca_bundle)})
        mounts.append({"name": "ca", "mountPath": CA_FOLDER, "readOnly": True})
    for name, secret, folder in (
        ("ssh", repository.ssh_secret_name, SSH_FOLDER),
        ("client-certificate", repository.client_certificate_secret_name, CLIENT_CERTIFICATE_FOLDER),
    ):
        if secret is not None:
            volumes.append({"name": name, "secret": {"secretName": secret}})
            mounts.append({"name": name, "mountPath": folder, "readOnly": True})


def _ca_source(bundle: CaBundle) -> dict[str, Any]:
    items = [{"key": bundle.key, "path": CA_FILE}]
    if bundle.secret_name is not None:
        return {"secret": {"secretName": bundle.secret_name, "items": items}}
    return {"configMap": {"name": bundle.config_map_name, "items": items}}


def _tolerations(job: MoverJob) -> list[dict[str, Any]]:
    """Those of the consumer's pod, and the mover's own that are not among them."""
    own = (toleration.to_body() for toleration in job.mover.tolerations)
    copied = [toleration.to_body() for toleration in job.tolerations]
    return [*copied, *(toleration for toleration in own if toleration not in copied)]


def _apart(job: MoverJob) -> dict[str, Any]:
    """Better on a node that has no other mover of the run; on any node where there is no such."""
    mates = {label: job.labels[label] for label in (naming.RUN_LABEL, naming.PURPOSE_LABEL)}
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": mates},
    }


def _affinity(placement: Placement) -> dict[str, Any]:
    """Node affinity by the nodes' names: the label kubernetes.io/hostname need not be a node's name."""
    affinity: dict[str, Any] = {}
    if placement.required_terms:
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {
            "nodeSelectorTerms": [dict(term) for term in placement.required_terms]
        }
    elif placement.required_nodes:
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {
            "nodeSelectorTerms": [_on(node) for node in placement.required_nodes]
        }
    if placement.preferred_nodes:
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = [
            {"weight": 100, "preference": _on(node)} for node in placement.preferred_nodes
        ]
    return affinity


def _on(node: str) -> dict[str, Any]:
    return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
