"""Events about objects, for `kubectl describe`: core/v1, posted by us, the same one counted up where it is repeated."""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime

from lowtide_operator.api.conditions import shortened
from lowtide_operator.api.values import format_time
from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import AlreadyExists, ClusterError
from lowtide_operator.cluster.protocol import Cluster
from lowtide_operator.planning.actions import Announce

logger = logging.getLogger(__name__)

COMPONENT = "lowtide"
MAX_MESSAGE = 1024


async def post(cluster: Cluster, event: Announce, now: datetime) -> None:
    """Post an Event. Best effort: a failure is logged, and fails nothing."""
    ref = event.ref
    message = shortened(event.message, MAX_MESSAGE)
    digest = hashlib.sha256(f"{ref.uid}/{event.reason}/{message}".encode()).hexdigest()[:16]
    name, time = f"{ref.name[:200]}.{digest}", format_time(now)
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": ref.namespace},
        "involvedObject": {
            "apiVersion": ref.api_version,
            "kind": ref.kind,
            "namespace": ref.namespace,
            "name": ref.name,
            "uid": ref.uid,
        },
        "type": "Warning" if event.warning else "Normal",
        "reason": event.reason,
        "message": message,
        "source": {"component": COMPONENT},
        "reportingComponent": f"lowtide.dev/{COMPONENT}",
        "reportingInstance": "",
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
    try:
        try:
            await cluster.create(kinds.EVENT, ref.namespace, body)
        except AlreadyExists:
            known = await cluster.get(kinds.EVENT, ref.namespace, name) or {}
            again = {"lastTimestamp": time, "count": (known.get("count") or 1) + 1}
            await cluster.merge_patch(kinds.EVENT, ref.namespace, name, again)
    except ClusterError as error:
        logger.warning(
            "the event %s about %s %s/%s (%s) was not posted: %s",
            event.reason,
            ref.kind,
            ref.namespace,
            ref.name,
            message,
            error,
        )
