"""What gatherers ask of kinds that an API server need not have, of the labels on an object, and of a namespace."""

from __future__ import annotations

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import NotServed
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.cluster.protocol import Cluster, Manifest
from lowtide_operator.planning import naming


async def list_if_served(
    cluster: Cluster, kind: Kind, namespace: str | None, labels: str = ""
) -> list[Manifest] | None:
    """The objects, or None where the API server does not have that kind. Raises ClusterError."""
    try:
        return await cluster.list(kind, namespace, labels=labels)
    except NotServed:
        return None


async def get_if_served(cluster: Cluster, kind: Kind, namespace: str, name: str) -> Manifest | None:
    """The object; None also where the API server does not have that kind. Raises ClusterError."""
    try:
        return await cluster.get(kind, namespace, name)
    except NotServed:
        return None


async def is_going(cluster: Cluster, namespace: str) -> bool:
    """Whether a namespace is being deleted, or is not there. Raises ClusterError."""
    place = await cluster.get(kinds.NAMESPACE, None, namespace)
    return place is None or "deletionTimestamp" in place["metadata"]


def is_marked(body: Manifest) -> bool:
    """Whether an object carries a hold of ours, or the mark of a release."""
    return label(body, naming.HELD_LABEL) is not None or naming.RELEASED_ANNOTATION in (
        body["metadata"].get("annotations") or {}
    )


def label(body: Manifest, name: str) -> str | None:
    """The value of a label, None where it is not there."""
    return (body["metadata"].get("labels") or {}).get(name)
