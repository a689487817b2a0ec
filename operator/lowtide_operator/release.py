"""`lowtide-release` (or `python -m lowtide_operator.release`): the release pod of one run.

It waits for the deadline that the run's ledger and holds carry, and then puts back what is still held. It needs no
operator: what to do is decided by planning/armed.py from what the API server shows, and it goes on until that says
that its work is over. Killed and started again it goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from lowtide_operator.api.values import parse_time
from lowtide_operator.cluster.connection import NoCluster
from lowtide_operator.cluster.errors import ClusterError
from lowtide_operator.cluster.protocol import Cluster, Manifest
from lowtide_operator.cluster.real import KubernetesCluster
from lowtide_operator.planning.actions import Action, HookJob, MoverJob, Ref, ReleaseJob
from lowtide_operator.planning.allowed import ArgoMode
from lowtide_operator.planning.armed import plan_armed
from lowtide_operator.planning.naming import API_VERSION
from lowtide_operator.planning.observed import Uid
from lowtide_operator.reconcile.apply import Applier
from lowtide_operator.reconcile.armed import RUN_KINDS, gather_armed
from lowtide_operator.reconcile.keepers import NO_ARGO, Argo
from lowtide_operator.telemetry import configure_logging

logger = logging.getLogger("lowtide_operator.release")

RETRY_SECONDS = 2.0
STOPPED = 128 + signal.SIGTERM
"""The exit code of a pod that was told to stop before its work was over, by an eviction or a drain: its Job makes
another one. (The operator dismisses a release pod by deleting its Job.)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until the work is over (exit code 0), or SIGTERM or SIGINT (STOPPED). 2 where there is no cluster."""
    options = _parser().parse_args(arguments)
    configure_logging(os.environ.get("LOWTIDE_LOG_LEVEL", "INFO"), os.environ.get("LOWTIDE_LOG_FORMAT", "json"))
    argocd = Argo(ArgoMode.PAUSE, tuple(options.argocd.split(","))) if options.argocd else NO_ARGO
    run = Ref(API_VERSION, options.kind, options.namespace, options.name, Uid(options.uid))
    try:
        over = asyncio.run(_watch(run, options.until, Path(options.armed_file) if options.armed_file else None, argocd))
    except NoCluster as error:
        logger.error("%s", error)
        return 2
    return 0 if over else STOPPED


async def _watch(run: Ref, until: datetime, armed_file: Path | None, argocd: Argo) -> bool:
    """Whether the work is over; else a signal came first."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    called = f"{run.kind} {run.namespace}/{run.name}"
    logger.info("watching %s until %s", called, until.isoformat())
    async with await KubernetesCluster.connect() as cluster:
        guard = Guard(cluster, run, until, argocd)
        while not ending.is_set():
            again = await guard.look()
            _show(armed_file, ready=guard.ready)
            if again is None:
                logger.info("nothing is left to do for %s", called)
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), again)
    logger.info("told to stop before the work is over")
    return False


class Guard:
    """Watches over one run. `ready` is whether its last look saw everything that it must see."""

    def __init__(self, cluster: Cluster, run: Ref, until: datetime, argocd: Argo = NO_ARGO) -> None:
        self._cluster = cluster
        self._run = run
        self._until = until
        self._argocd = argocd
        self._applier = Applier(cluster, _makes_nothing, _makes_nothing)
        self.ready = False

    async def look(self) -> float | None:
        """Observe, plan, apply. In how many seconds to look again; None: the work is over."""
        try:
            observed = await gather_armed(self._cluster, self._run, self._until, self._argocd)
            now = self._cluster.now()
            plan = plan_armed(observed, now)
            self.ready = True
            for action in plan.actions:
                await self._do(action, now)
        except ClusterError as error:
            self.ready = False
            logger.warning("%s", error)
            return RETRY_SECONDS
        except Exception:
            self.ready = False
            logger.exception("a mistake in the release")
            return RETRY_SECONDS
        return plan.requeue_after

    async def _do(self, action: Action, now: datetime) -> None:
        """Execute one action; what fails keeps no other workload down."""
        logger.info("the deadline has passed: %s", action)
        try:
            await self._applier.apply((action,), None, now)
        except ClusterError as error:
            logger.warning("looking again: %s", error)


def _makes_nothing(job: MoverJob | HookJob | ReleaseJob) -> Manifest:
    raise LookupError(f"a release makes no Job ({job.name})")


def _show(armed_file: Path | None, *, ready: bool) -> None:
    """Tell the pod's probes."""
    if armed_file is None:
        return
    if ready:
        armed_file.touch()
    else:
        armed_file.unlink(missing_ok=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lowtide-release", description="Puts back what one run of Lowtide stopped.")
    parser.add_argument("--kind", required=True, choices=sorted(RUN_KINDS), help="the run's kind")
    parser.add_argument("--namespace", required=True, help="the run's namespace")
    parser.add_argument("--name", required=True, help="the run's name")
    parser.add_argument("--uid", required=True, help="the run's uid")
    parser.add_argument("--until", required=True, type=parse_time, help="until when to watch (RFC 3339)")
    parser.add_argument("--argocd", default="", help="the namespaces whose Applications may be paused, by commas")
    parser.add_argument("--armed-file", default="", help="a file that is there while everything can be read")
    return parser


if __name__ == "__main__":
    sys.exit(main())
