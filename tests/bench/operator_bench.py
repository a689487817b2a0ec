"""What the operator costs and how fast it is: `python -m tests.bench.operator_bench [memory|steps ...]`.

memory: resident memory at rest and with 500 policies, on a real API server without nodes.
steps: the seconds of each step of one Snapshot of a 10 MB volume, on the real cluster of tests/cluster.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from lowtide_operator.cluster import kinds
from tests.cluster.controlplane import control_plane
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.world import World, world

POLICIES = 500
MEGABYTE = 1024 * 1024
SETTLE_SECONDS = 10.0


def memory() -> dict[str, float]:
    """Resident memory (MB) at rest and with 500 policies, and the seconds until all of them are Ready."""
    with (
        control_plane() as plane,
        tempfile.TemporaryDirectory(prefix="lowtide-bench-") as folder,
        world(plane, Path(folder)) as shop,
    ):
        shop.operator.start()
        time.sleep(SETTLE_SECONDS)
        rest = shop.operator.rss()
        for number in range(POLICIES):
            shop.policy(f"policy-{number:03}", schedule=f"{number % 60} 2 * * *")
        began = time.monotonic()
        wait_for(
            "all policies are Ready", lambda: ready(shop) == POLICIES, within=300, every=1, seen=shop.operator.tail
        )
        seconds = time.monotonic() - began
        time.sleep(SETTLE_SECONDS)
        return {
            "rss at rest, MB": rest / MEGABYTE,
            f"rss with {POLICIES} policies, MB": shop.operator.rss() / MEGABYTE,
            f"from the last of {POLICIES} policies to all Ready, s": seconds,
        }


def ready(shop: World) -> int:
    """How many policies are Ready."""
    return sum(
        any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions(policy))
        for policy in shop.api.list(kinds.BACKUP_POLICY, shop.namespace)
    )


def conditions(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The conditions of an object."""
    found: list[dict[str, Any]] = (body.get("status") or {}).get("conditions") or []
    return found


def steps_of(body: dict[str, Any]) -> dict[str, float]:
    """The seconds of each step of a run that ended, from its own status (times there are whole seconds)."""
    status = body["status"]
    ledger = status.get("quiesce") or {}
    moments = {
        "object made": body["metadata"]["creationTimestamp"],
        "started": status.get("startTime"),
        "first workload stopped": ledger.get("startTime"),
        "pods gone": ledger.get("goneTime"),
        "volumes read, workloads put back": ledger.get("releasedTime"),
        "workloads ready": ledger.get("readyTime"),
        "Ready": status.get("endTime"),
    }
    first = datetime.fromisoformat(str(moments["object made"]))
    return {
        f"{name}, s": (datetime.fromisoformat(moment) - first).total_seconds()
        for name, moment in moments.items()
        if moment is not None
    }


def main(arguments: list[str]) -> int:
    """Measure what is named (default: memory), and print it."""
    for name in arguments or ["memory"]:
        measure = {"memory": memory}.get(name)
        if measure is None:
            print(f"no such measurement: {name}; there is memory", file=sys.stderr)
            return 2
        for what, value in measure().items():
            print(f"{what:58} {value:8.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
