"""The Job of a release pod: in the operator's namespace, from the operator's image, with an account of its own.

A Job, because it outlives the operator: its controller replaces a pod that was evicted or went with its node, and
removes it some time after it is done. It has no deadline of its own: only its work ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lowtide_operator.api.values import format_time
from lowtide_operator.manifests import security
from lowtide_operator.manifests.job import LEFT_ALONE, SCRATCH_PATH, Installation
from lowtide_operator.planning import naming
from lowtide_operator.planning.actions import ReleaseJob

ARMED_FILE = f"{SCRATCH_PATH}/armed"
"""Is there while the release pod can read what it may have to put back."""
KEPT_SECONDS = 600
RESTARTS = 10_000
GONE_NODE_SECONDS = 30
REQUESTS = {"cpu": "5m", "memory": "64Mi"}
LIMITS = {"memory": "256Mi"}


@dataclass(frozen=True, slots=True)
class ReleasePods:
    """What is the same for all release pods of an installation.

    `namespace` is the operator's, `account` the service account. `scheduling` are fields of the pod's spec as the
    operator's own pod has them: nodeSelector, tolerations, affinity, priorityClassName. `argocd` are the
    namespaces whose Applications may be paused.
    """

    namespace: str
    account: str
    scheduling: Mapping[str, Any] = field(default_factory=dict)
    argocd: tuple[str, ...] = ()


def release_job(job: ReleaseJob, installation: Installation, pods: ReleasePods) -> dict[str, Any]:
    """The Job for `job`, ready to be created."""
    labels = {
        "app.kubernetes.io/name": "lowtide",
        "app.kubernetes.io/component": "release",
        naming.MANAGED_BY_LABEL: naming.MANAGED_BY,
        naming.RELEASE_OF_LABEL: job.run.uid,
    }
    annotations = {naming.RELEASE_OF_ANNOTATION: f"{job.run.kind}/{job.run.namespace}/{job.run.name}"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job.name,
            "namespace": pods.namespace,
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {
            "backoffLimit": RESTARTS,
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {**annotations, **LEFT_ALONE},
                },
                "spec": _pod(job, installation, pods),
            },
        },
    }


def _pod(job: ReleaseJob, installation: Installation, pods: ReleasePods) -> dict[str, Any]:
    armed = {"exec": {"command": ["test", "-e", ARMED_FILE]}}
    own = dict(pods.scheduling)
    return {
        **own,
        "tolerations": [*own.get("tolerations", ()), *map(_gone_node, ("not-ready", "unreachable"))],
        "affinity": _beside_the_operator(own.get("affinity") or {}),
        "restartPolicy": "OnFailure",
        "serviceAccountName": pods.account,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": security.own_pod_context(),
        "containers": [
            {
                "name": "release",
                **installation.image_fields(),
                "command": ["lowtide-release"],
                "args": [
                    f"--kind={job.run.kind}",
                    f"--namespace={job.run.namespace}",
                    f"--name={job.run.name}",
                    f"--uid={job.run.uid}",
                    f"--until={format_time(job.deadline)}",
                    f"--armed-file={ARMED_FILE}",
                    *([f"--argocd={','.join(pods.argocd)}"] if pods.argocd else []),
                ],
                "startupProbe": {**armed, "periodSeconds": 1, "failureThreshold": 600},
                "readinessProbe": {**armed, "periodSeconds": 10, "failureThreshold": 2},
                "resources": {"requests": REQUESTS, "limits": LIMITS},
                "securityContext": security.confined(),
                "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH_PATH}],
            }
        ],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}],
    }


def _gone_node(condition: str) -> dict[str, Any]:
    """A node that is gone for half a minute gives the pod up: another one takes its place."""
    return {
        "key": f"node.kubernetes.io/{condition}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": GONE_NODE_SECONDS,
    }


def _beside_the_operator(affinity: Mapping[str, Any]) -> dict[str, Any]:
    """Better on another node than the operator: what takes one of them should leave the other."""
    if "podAntiAffinity" in affinity:
        return dict(affinity)
    operator = {"app.kubernetes.io/component": "operator", "app.kubernetes.io/part-of": "lowtide"}
    term = {"labelSelector": {"matchLabels": operator}, "topologyKey": "kubernetes.io/hostname"}
    apart = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}
    return {**affinity, "podAntiAffinity": apart}
