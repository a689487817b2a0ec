"""Objects with one fault each, and the words in which they are refused."""

from __future__ import annotations

import copy
from typing import Any

POLICY, SNAPSHOT = "the smallest policy", "the smallest snapshot"
RESTORE, FOREIGN = "the smallest restore", "a restore from a foreign repository"

STREAM = {"name": "shop.sql", "container": {"image": "postgres:16", "command": ["pg_dump", "shop"]}}

BAD: dict[str, tuple[str, str, Any, str]] = {
    "a schedule of four fields": (POLICY, "spec.schedule", "0 2 * *", "must be five cron fields"),
    "a schedule in words": (POLICY, "spec.schedule", "@nightly", "@hourly, @daily"),
    "a duration without a unit": (POLICY, "spec.startingDeadline", "90", "written like 90s, 30m or 1h30m"),
    "a duration in days": (POLICY, "spec.quiesce", {"maxDowntime": "1d"}, "written like 90s, 30m or 1h30m"),
    "a duration of nothing": (POLICY, "spec.quiesce", {"timeout": "0s"}, "must be longer than nothing"),
    "a number as a duration": (POLICY, "spec.startingDeadline", 90, "must be of type string"),
    "a timeout longer than the downtime": (
        POLICY,
        "spec.quiesce",
        {"timeout": "1h"},
        "timeout must not be longer than maxDowntime",
    ),
    "a time zone with a space": (POLICY, "spec.timeZone", "Central Time", "name of a time zone like UTC"),
    "no capture": (POLICY, "spec.capture", ..., "it goes with volumes"),
    "a capture of nothing": (
        POLICY,
        "spec",
        {"repository": {"secretName": "backup"}, "streams": [STREAM], "capture": {"method": "Direct"}},
        "it goes with volumes",
    ),
    "nothing to back up": (
        POLICY,
        "spec",
        {"repository": {"secretName": "backup"}},
        "say what is backed up: volumes, streams or both",
    ),
    "workloads to stop for streams": (
        POLICY,
        "spec",
        {
            "repository": {"secretName": "backup"},
            "streams": [STREAM],
            "quiesce": {"workloads": [{"kind": "Deployment", "name": "web"}]},
        },
        "streams are taken while everything runs",
    ),
    "a stream that runs nowhere": (POLICY, "spec.streams", [{"name": "a.sql"}], "by container or by exec"),
    "a stream that runs in two places": (
        POLICY,
        "spec.streams",
        [{**STREAM, "exec": {"podSelector": {"matchLabels": {"app": "db"}}, "command": ["pg_dump"]}}],
        "only by one of the two",
    ),
    "a stream from a pod that is not said": (
        POLICY,
        "spec.streams",
        [{"name": "a.sql", "exec": {"command": ["pg_dump"]}}],
        "say by podSelector or by workload",
    ),
    "a stream from any pod": (
        POLICY,
        "spec.streams",
        [{"name": "a.sql", "exec": {"podSelector": {}, "command": ["pg_dump"]}}],
        "an empty selector would take everything",
    ),
    "a stream from the pod of a CronJob": (
        POLICY,
        "spec.streams",
        [{"name": "a.sql", "exec": {"workload": {"kind": "CronJob", "name": "dump"}, "command": ["pg_dump"]}}],
        "a CronJob has no pod that waits for a command",
    ),
    "a stream from a pod without a command": (
        POLICY,
        "spec.streams",
        [{"name": "a.sql", "exec": {"workload": {"kind": "StatefulSet", "name": "db"}, "command": []}}],
        "should have at least 1 items",
    ),
    "a stream without a command": (
        POLICY,
        "spec.streams",
        [{"name": "a.sql", "container": {"image": "postgres:16", "command": []}}],
        "should have at least 1 items",
    ),
    "a stream in a folder": (POLICY, "spec.streams", [{**STREAM, "name": "a/b"}], "must be the name of a file"),
    "two streams of one name": (POLICY, "spec.streams", [STREAM, STREAM], "Duplicate value"),
    "no capture method": (POLICY, "spec.capture", {}, "spec.capture.method: Required value"),
    "a capture method that there is not": (
        POLICY,
        "spec.capture.method",
        "Rsync",
        'supported values: "Snapshot", "GroupSnapshot", "Clone", "Direct"',
    ),
    "a snapshot class without snapshots": (
        POLICY,
        "spec.capture",
        {"method": "Clone", "volumeSnapshotClassName": "fast"},
        "volumeSnapshotClassName goes with method Snapshot",
    ),
    "a group snapshot class without a group snapshot": (
        POLICY,
        "spec.capture",
        {"method": "Snapshot", "volumeGroupSnapshotClassName": "fast"},
        "volumeGroupSnapshotClassName goes with method GroupSnapshot",
    ),
    "a snapshot class of its own for a group snapshot": (
        POLICY,
        "spec.capture",
        {"method": "GroupSnapshot", "volumeSnapshotClassName": "fast"},
        "volumeSnapshotClassName goes with method Snapshot",
    ),
    "a class of copies without copies": (
        POLICY,
        "spec.capture",
        {"method": "Direct", "storageClassName": "fast"},
        "storageClassName is that of copies: method Direct makes none",
    ),
    "claims and a selector": (
        POLICY,
        "spec.volumes",
        {"claims": ["a"], "selector": {"matchLabels": {"app": "shop"}}},
        "name the claims or select them by label, and only one of the two",
    ),
    "neither claims nor a selector": (
        POLICY,
        "spec.volumes",
        {},
        "name the claims or select them by label, and only one of the two",
    ),
    "no claims": (POLICY, "spec.volumes", {"claims": []}, "should have at least 1 items"),
    "the same claim twice": (POLICY, "spec.volumes", {"claims": ["a", "a"]}, "Duplicate value"),
    "65 claims": (POLICY, "spec.volumes", {"claims": [f"c{n}" for n in range(65)]}, "must have at most 64 items"),
    "an empty selector": (POLICY, "spec.volumes", {"selector": {}}, "an empty selector would take everything"),
    "a selector's operator without values": (
        POLICY,
        "spec.volumes",
        {"selector": {"matchExpressions": [{"key": "app", "operator": "In"}]}},
        "In and NotIn need values",
    ),
    "an exclusion from named claims": (
        POLICY,
        "spec.volumes",
        {"claims": ["a"], "exclude": ["b"]},
        "exclude goes with selector",
    ),
    "hooks without volumes": (
        POLICY,
        "spec",
        {
            "repository": {"secretName": "backup"},
            "streams": [{"name": "db.sql", "container": {"image": "postgres:16", "command": ["pg_dump"]}}],
            "hooks": {"before": [{"podSelector": {"matchLabels": {"app": "db"}}, "command": ["sync"]}]},
        },
        "hooks go with volumes",
    ),
    "a hook without a pod": (
        POLICY,
        "spec.hooks",
        {"before": [{"command": ["sync"]}]},
        "say by podSelector or by workload",
    ),
    "a hook with two pods": (
        POLICY,
        "spec.hooks",
        {
            "after": [
                {
                    "podSelector": {"matchLabels": {"app": "db"}},
                    "workload": {"kind": "StatefulSet", "name": "db"},
                    "command": ["sync"],
                }
            ]
        },
        "only by one of the two",
    ),
    "a hook in any pod": (
        POLICY,
        "spec.hooks",
        {"before": [{"podSelector": {}, "command": ["sync"]}]},
        "an empty selector would take everything",
    ),
    "a hook in a CronJob": (
        POLICY,
        "spec.hooks",
        {"before": [{"workload": {"kind": "CronJob", "name": "mailer"}, "command": ["sync"]}]},
        "a CronJob has no pod that waits for a command",
    ),
    "a hook without a command": (
        POLICY,
        "spec.hooks",
        {"before": [{"podSelector": {"matchLabels": {"app": "db"}}, "command": []}]},
        "should have at least 1 items",
    ),
    "a claim with a bad name": (POLICY, "spec.volumes", {"claims": ["Shop_1"]}, "must be the name of an object"),
    "a repository without a Secret": (POLICY, "spec.repository", {}, "spec.repository.secretName: Required value"),
    "a repository among its own volumes": (
        POLICY,
        "spec",
        {
            "repository": {"secretName": "backup", "claimName": "vault"},
            "volumes": {"claims": ["data", "vault"]},
            "capture": {"method": "Direct"},
        },
        "a repository can't be backed up into itself",
    ),
    "a foreign snapshot without a path": (
        FOREIGN,
        "spec.volumes",
        [{"claim": "data"}],
        "only you know which folder of a foreign snapshot is the root",
    ),
    "a repository to be restored into itself": (
        FOREIGN,
        "spec.source.repository.claimName",
        "data",
        "a repository can't be restored into itself",
    ),
    "a CA from two places": (
        POLICY,
        "spec.repository.caBundle",
        {"secretName": "a", "configMapName": "b"},
        "name a Secret or a ConfigMap",
    ),
    "a claim that is reached by SSH": (
        POLICY,
        "spec.repository",
        {"secretName": "backup", "claimName": "vault", "sshSecretName": "keeper"},
        "a repository on a claim is reached without a server",
    ),
    "an option of no storage": (
        POLICY,
        "spec.repository.options",
        {"password": "x"},
        "an option is named by its storage",
    ),
    "no speed at all": (POLICY, "spec.repository.limitUpload", 0, "greater than or equal to 1"),
    "a workload of a kind that can't be scaled": (
        POLICY,
        "spec.quiesce",
        {"workloads": [{"kind": "DaemonSet", "name": "a"}]},
        'supported values: "Deployment"',
    ),
    "workloads although nothing is stopped": (
        POLICY,
        "spec.quiesce",
        {"strategy": "None", "workloads": [{"kind": "Deployment", "name": "a"}]},
        "strategy None stops nothing",
    ),
    "one of Lowtide's own labels on movers": (
        POLICY,
        "spec.mover",
        {"labels": {"lowtide.dev/run": "x"}},
        "are Lowtide's own",
    ),
    "a label of a bad value": (POLICY, "spec.mover", {"labels": {"a": "b c"}}, "must be a label's value"),
    "a quantity that is none": (
        POLICY,
        "spec.mover",
        {"resources": {"requests": {"memory": "1 GB"}}},
        "must be a quantity like 500m",
    ),
    "a negative quantity": (
        POLICY,
        "spec.mover",
        {"resources": {"limits": {"cpu": -1}}},
        "must be a quantity like 500m",
    ),
    "a toleration that says nothing": (
        POLICY,
        "spec.mover",
        {"tolerations": [{"effect": "NoExecute"}]},
        "without a key must have the operator Exists",
    ),
    "eleven retries": (POLICY, "spec.mover", {"retry": {"limit": 11}}, "should be less than or equal to 10"),
    "a negative user": (
        POLICY,
        "spec.mover",
        {"securityContext": {"runAsUser": -1}},
        "should be greater than or equal to 0",
    ),
    "a policy's name of 41 characters": (POLICY, "metadata.name", "p" * 41, "at most 40 characters"),
    "a tag that is Lowtide's own": (SNAPSHOT, "spec.tags", ["lowtide:run=x"], "tags that start with lowtide:"),
    "a tag that begins with a comma": (SNAPSHOT, "spec.tags", [",a"], "must not"),
    "a tag with a comma": (SNAPSHOT, "spec.tags", ["a,b"], "must not"),
    "a deletion policy of another system": (
        SNAPSHOT,
        "spec.deletionPolicy",
        "Orphan",
        'supported values: "Retain", "Delete"',
    ),
    "no policy": (SNAPSHOT, "spec.policyName", ..., "spec.policyName: Required value"),
    "no spec at all": (SNAPSHOT, "spec", ..., "spec: Required value"),
    "no source": (RESTORE, "spec.source", {}, "exactly one of snapshotName, policy and repository"),
    "two sources": (
        RESTORE,
        "spec.source",
        {"snapshotName": "a", "policy": {"name": "b"}},
        "exactly one of snapshotName, policy and repository",
    ),
    "no word on what happens to other files": (RESTORE, "spec.overwrite", ..., "spec.overwrite: Required value"),
    "an unknown word on it": (RESTORE, "spec.overwrite", "Replace", 'supported values: "Mirror", "Merge"'),
    "no volumes": (RESTORE, "spec.volumes", [], "should have at least 1 items"),
    "a volume that is named twice": (
        RESTORE,
        "spec.volumes",
        [{"claim": "a"}, {"claim": "a", "newClaim": {"name": "b"}}],
        "name each claim once: for a second copy make another Restore",
    ),
    "two volumes into one claim": (
        RESTORE,
        "spec.volumes",
        [{"claim": "a"}, {"claim": "b", "newClaim": {"name": "a"}}],
        "two volumes can't be restored into one claim",
    ),
    "a time that is none": (
        RESTORE,
        "spec.source",
        {"policy": {"name": "a", "asOf": "yesterday"}},
        "must be of type date-time",
    ),
    "a negative offset": (
        RESTORE,
        "spec.source",
        {"policy": {"name": "a", "offset": -1}},
        "should be greater than or equal to 0",
    ),
    "an id and a host": (FOREIGN, "spec.source.repository.host", "shop", "by its id, or by host, path and tags"),
    "neither an id nor a host": (FOREIGN, "spec.source.repository.id", ..., "by its id, or by host, path and tags"),
    "an id and a time": (
        FOREIGN,
        "spec.source.repository.asOf",
        "2026-11-25T02:00:00Z",
        "asOf has nothing to choose from",
    ),
    "an id that is none": (FOREIGN, "spec.source.repository.id", "latest", "8 to 64 hexadecimal digits"),
    "a snapshot for two volumes": (
        FOREIGN,
        "spec.volumes",
        [{"claim": "a", "path": "/"}, {"claim": "b", "path": "/"}],
        "a snapshot in a repository is one volume",
    ),
    "an access mode that is none": (
        RESTORE,
        "spec.volumes",
        [{"claim": "a", "newClaim": {"name": "b", "accessModes": ["RWO"]}}],
        'supported values: "ReadWriteOnce"',
    ),
}
"""By the fault: which of examples.GOOD, the path to what is set (`...` removes it), and what the API server says."""

SERVER_ONLY = {"the same claim twice", "two streams of one name", "a policy's name of 41 characters"}
"""Faults that the models do not look for: they were refused before."""


def changed(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `body` with the field at `path` set; `...` removes it."""
    result = copy.deepcopy(body)
    *parents, last = path.split(".")
    node: Any = result
    for part in parents:
        node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
    if value is ...:
        del node[last]
    else:
        node[int(last) if last.isdigit() else last] = value
    return result
