"""What gather read of the classes in which copies of volumes are made, and of snapshots. See observed.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lowtide_operator.planning.observed import Meta


@dataclass(frozen=True, slots=True)
class StorageClass:
    """A StorageClass that a claim of the namespace, or a policy's capture, names. `waits`: it binds at the first
    consumer; `retains`: its volumes outlive their claims.
    """

    name: str
    provisioner: str
    waits: bool = False
    retains: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotClass:
    """A VolumeSnapshotClass or VolumeGroupSnapshotClass. `default`: it is annotated as the default of its driver;
    `retains`: what is taken with it outlives its VolumeSnapshot.
    """

    name: str
    driver: str
    default: bool = False
    retains: bool = False


@dataclass(frozen=True, slots=True)
class VolumeSnapshot:
    """A VolumeSnapshot of ours: found by the labels naming.COPY_LABEL and naming.RUN_LABEL, or as a member of our
    VolumeGroupSnapshot, which owns it; the snapshot controller makes and deletes members, without any label.

    `claim` is the one that it was taken of. `ready`: it is bound to its content, readyToUse, and says no error. `error`
    is its error's message; `size` its restoreSize.
    """

    meta: Meta
    claim: str = ""
    ready: bool = False
    error: str = ""
    size: str = ""


@dataclass(frozen=True, slots=True)
class GroupSnapshot:
    """A VolumeGroupSnapshot of ours: found by the labels naming.COPY_LABEL and naming.RUN_LABEL.

    `bound`: its content is made, so its volumes are settled. `ready`: that, readyToUse, and no error. `error` is its
    error's message.
    """

    meta: Meta
    bound: bool = False
    ready: bool = False
    error: str = ""
