"""The three kinds of lowtide.dev/v1alpha1 as models. The custom resource definitions are generated from them
(api/crd.py)."""

from lowtide_operator.api.conditions import Condition, Truth
from lowtide_operator.api.model import API_VERSION, GROUP, VERSION, Metadata, Resource, parse
from lowtide_operator.api.policy import BackupPolicy, BackupPolicySpec, BackupPolicyStatus
from lowtide_operator.api.restore import Restore, RestoreSpec, RestoreStatus
from lowtide_operator.api.snapshot import Snapshot, SnapshotSpec, SnapshotStatus

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "BackupPolicy",
    "BackupPolicySpec",
    "BackupPolicyStatus",
    "Condition",
    "Metadata",
    "Resource",
    "Restore",
    "RestoreSpec",
    "RestoreStatus",
    "Snapshot",
    "SnapshotSpec",
    "SnapshotStatus",
    "Truth",
    "parse",
]
