"""The Job of a hook: it executes a command in a pod of an application, with the account that the chart makes for that.

Unlike a mover it has a token of the API server, and nothing else: no volume, no Secret. It runs once and is never
modified, as a mover is.
"""

from __future__ import annotations

from typing import Any

from lowtide_engine.contract import RESULT_FILE_VARIABLE
from lowtide_operator.manifests import security
from lowtide_operator.manifests.command import container_arguments
from lowtide_operator.manifests.job import RESULT_FILE, SCRATCH_PATH, Installation, run_once
from lowtide_operator.planning.actions import HookJob

CONTAINER = "hook"
GRACE_SECONDS = 10
REQUESTS = {"cpu": "10m", "memory": "64Mi"}
LIMITS = {"memory": "256Mi"}


def hook_job(job: HookJob, installation: Installation) -> dict[str, Any]:
    """The Job for `job`, ready to be created."""
    return run_once(job, CONTAINER, _pod(job, installation))


def _pod(job: HookJob, installation: Installation) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",
        "serviceAccountName": installation.exec_account,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": security.own_pod_context(),
        "containers": [
            {
                "name": CONTAINER,
                **installation.image_fields(),
                "command": ["lowtide-hook"],
                "args": container_arguments(_arguments(job)),
                "env": [
                    {"name": RESULT_FILE_VARIABLE, "value": RESULT_FILE},
                    {"name": "TZ", "value": "UTC"},
                    {"name": "HOME", "value": SCRATCH_PATH},
                ],
                "resources": {"requests": REQUESTS, "limits": LIMITS},
                "securityContext": security.confined(),
                "terminationMessagePath": RESULT_FILE,
                "terminationMessagePolicy": "File",
                "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH_PATH}],
            }
        ],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}],
    }


def _arguments(job: HookJob) -> list[str]:
    words = [f"--hook={job.hook}", f"--namespace={job.namespace}", f"--selector={job.selector}"]
    words += [f"--container={job.container}"] if job.container else []
    return [*words, f"--timeout={job.timeout}", "--", *job.command]
