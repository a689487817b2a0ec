"""`python -m lowtide_operator`: the operator's process, from its environment to its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.connection import NoCluster
from lowtide_operator.cluster.errors import ClusterError
from lowtide_operator.cluster.protocol import Cluster, Manifest
from lowtide_operator.cluster.real import KubernetesCluster
from lowtide_operator.handlers.reports import build_registry
from lowtide_operator.handlers.watch import Watch
from lowtide_operator.manifests import Installation, ReleasePods, hook_job, mover_job, release_job
from lowtide_operator.planning.actions import HookJob, MoverJob
from lowtide_operator.planning.allowed import ArgoMode
from lowtide_operator.reconcile.apply import Applier
from lowtide_operator.reconcile.driver import Driver
from lowtide_operator.reconcile.gather import Gatherer
from lowtide_operator.reconcile.heartbeat import Heartbeat
from lowtide_operator.reconcile.inbox import Inbox
from lowtide_operator.reconcile.keepers import Argo
from lowtide_operator.reconcile.keys import Key
from lowtide_operator.reconcile.leases import NamespaceLeases
from lowtide_operator.reconcile.planners import plan
from lowtide_operator.reconcile.queue import WorkQueue
from lowtide_operator.reconcile.resync import Resync, every, keep_leases, resync_forever
from lowtide_operator.settings import InvalidSettings, Settings, from_environment
from lowtide_operator.telemetry import Metrics, configure_logging, served

logger = logging.getLogger("lowtide_operator")

FINISH_SECONDS = 10.0
"""How long the object that is being looked at may take at the end."""
STOP_WATCH_SECONDS = 8.0
RETRY_SECONDS = 2.0


def main() -> int:
    """Run until SIGTERM or SIGINT. The exit code is 0 for an orderly end, 2 for settings that can't work."""
    try:
        settings = from_environment(os.environ)
    except InvalidSettings as error:
        print(f"lowtide-operator: {error}", file=sys.stderr)
        return 2
    configure_logging(settings.log_level, settings.log_format)
    try:
        asyncio.run(_operate(settings))
    except NoCluster as error:
        logger.error("%s", error)
        return 2
    return 0


async def _operate(settings: Settings) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    metrics = Metrics()
    async with await KubernetesCluster.connect() as cluster:
        heartbeat = Heartbeat(cluster, settings.heartbeat_namespaces, settings.installation, settings.liveness)
        healthy, ready = heartbeat.problem, heartbeat.unready
        async with served(settings.http_address, settings.http_port, metrics, healthy, ready):
            uid = await _until(ending, _cluster_uid(cluster, settings))
            if uid is not None:
                await _work(cluster, settings, metrics, heartbeat, uid, ending)
    logger.info("ended in order")


async def _work(
    cluster: Cluster, settings: Settings, metrics: Metrics, heartbeat: Heartbeat, uid: str, ending: asyncio.Event
) -> None:
    """Watch, look and write, until `ending` is set."""
    installation = Installation(
        image=settings.mover_image,
        cluster_uid=uid,
        pull_policy=settings.mover_pull_policy,
        exec_account=settings.exec_account,
    )
    queue: WorkQueue[Key] = WorkQueue()
    argocd = Argo(ArgoMode(settings.argocd), settings.argocd_namespaces)
    paused = argocd.namespaces if argocd.mode is ArgoMode.PAUSE else ()
    pods = ReleasePods(settings.namespace, settings.release_account, settings.release_pod, paused)
    gatherer = Gatherer(
        cluster,
        uid,
        settings.namespace,
        argocd,
        streams_allowed=settings.allow_streams,
        exec_namespaces=settings.exec_namespaces,
    )
    leases = NamespaceLeases(cluster, settings.installation, settings.hold)

    def build(job: MoverJob | HookJob) -> Manifest:
        if isinstance(job, HookJob):
            return hook_job(job, installation)
        return mover_job(job, installation)

    applier = Applier(cluster, build, lambda job: release_job(job, installation, pods))
    driver = Driver(cluster=cluster, gatherer=gatherer, plan=plan, applier=applier, leases=leases, metrics=metrics)
    inbox = Inbox(queue, driver, heartbeat)
    resync = Resync(cluster, settings.namespaces, queue, driver, gatherer)
    metrics.waiting.set_function(lambda: len(queue))
    metrics.beat_age.set_function(lambda: heartbeat.age)
    loop = asyncio.get_running_loop()
    watch = Watch(settings, lambda: build_registry(inbox, loop), metrics.watch_restarts.inc)
    background = (
        lambda: resync_forever(resync, settings.resync),
        lambda: keep_leases(leases),
        lambda: every(settings.heartbeat, heartbeat.beat),
    )
    async with _running(*background), _workers(queue, driver, settings.workers):
        watch.start()
        where = "all namespaces" if settings.serves_all else ", ".join(settings.namespaces)
        logger.info("serving %s as %s", where, settings.installation)
        await ending.wait()
        logger.info("ending")
        await asyncio.to_thread(watch.stop, STOP_WATCH_SECONDS)


@contextlib.asynccontextmanager
async def _running(*bodies: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Run these for the time of the block. One that ends by itself is a mistake, and ends the process with it."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(body()) for body in bodies]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


@contextlib.asynccontextmanager
async def _workers(queue: WorkQueue[Key], driver: Driver, count: int) -> AsyncIterator[None]:
    """Workers for the time of the block; at its end they finish what they are at."""
    tasks = [asyncio.create_task(queue.work(driver.reconcile)) for _ in range(count)]
    try:
        yield
    finally:
        queue.close()
        await queue.finish(FINISH_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _cluster_uid(cluster: Cluster, settings: Settings) -> str:
    """What tells this cluster from others: as configured, else the uid of kube-system; waits for the API server."""
    while True:
        try:
            found = await cluster.get(kinds.NAMESPACE, None, "kube-system")
        except ClusterError as error:
            logger.warning("the API server does not answer yet: %s", error)
        else:
            if settings.cluster_uid:
                return settings.cluster_uid
            if found is not None:
                uid: str = found["metadata"]["uid"]
                return uid
            logger.error("there is no namespace kube-system; set LOWTIDE_CLUSTER_UID")
        await asyncio.sleep(RETRY_SECONDS)


async def _until(ending: asyncio.Event, work: Coroutine[None, None, str]) -> str | None:
    """The result of `work`, or None where `ending` is set before it."""
    task, end = asyncio.ensure_future(work), asyncio.ensure_future(ending.wait())
    await asyncio.wait({task, end}, return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    if task.done():
        return task.result()
    task.cancel()
    return None


if __name__ == "__main__":
    sys.exit(main())
