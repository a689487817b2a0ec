"""What the operator tells about itself: log lines, metrics, and the three addresses that probes and Prometheus ask."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

logger = logging.getLogger(__name__)

Check = Callable[[], str]
"""Answers "" while all is well, else a sentence that says what is not."""

QUIET = {
    "kopf": logging.WARNING,
    "kopf.objects": logging.WARNING,
    "kopf._cogs.clients": logging.CRITICAL,
    "kopf._core.reactor.running": logging.ERROR,
    "asyncio": logging.INFO,
    "kubernetes": logging.INFO,
    "aiohttp.access": logging.WARNING,
}
"""Loggers that would fill the log with what is said elsewhere already."""


class Metrics:
    """All metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of_policy = ("namespace", "policy")
        self.reconciles = Counter(
            "lowtide_reconciles", "Objects looked at, by how it ended", ("subject", "result"), registry=self.registry
        )
        self.seconds = Histogram(
            "lowtide_reconcile_seconds",
            "How long looking at an object took",
            ("subject",),
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )
        self.waiting = Gauge("lowtide_queue_length", "Objects that wait for a worker", registry=self.registry)
        self.beat_age = Gauge(
            "lowtide_heartbeat_age_seconds", "Since when a heartbeat has not come back", registry=self.registry
        )
        self.watch_restarts = Counter(
            "lowtide_watch_restarts", "How often watching ended and was started again", registry=self.registry
        )
        self.runs = Counter(
            "lowtide_runs", "Runs that ended", ("kind", "namespace", "outcome", "reason"), registry=self.registry
        )
        self.downtime = Histogram(
            "lowtide_downtime_seconds",
            "For how long a run kept workloads down, by its capture.method (none for a Restore)",
            ("kind", "method"),
            buckets=(1, 3, 10, 30, 60, 180, 600, 1800, 3600),
            registry=self.registry,
        )
        self.upload = Histogram(
            "lowtide_upload_seconds",
            "How long storing the volumes of a run took, by its capture.method",
            ("kind", "method"),
            buckets=(3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000),
            registry=self.registry,
        )
        self.held = Gauge(
            "lowtide_held_workloads",
            "Workloads that are scaled down by Lowtide now",
            ("namespace",),
            registry=self.registry,
        )
        self.ready = Gauge("lowtide_policy_ready", "1 where the policy is Ready", of_policy, registry=self.registry)
        self.protected = Gauge(
            "lowtide_policy_protected", "1 where a good snapshot is young enough", of_policy, registry=self.registry
        )
        self.suspended = Gauge(
            "lowtide_policy_suspended", "1 where the schedule rests on purpose", of_policy, registry=self.registry
        )
        self.last_success = Gauge(
            "lowtide_policy_last_success_timestamp_seconds",
            "When the last good snapshot was captured",
            of_policy,
            registry=self.registry,
        )
        self.failures = Gauge(
            "lowtide_policy_consecutive_failures",
            "Failed runs since the last good one",
            of_policy,
            registry=self.registry,
        )

    def policy(self, namespace: str, name: str, status: Mapping[str, object] | None) -> None:
        """Show a policy's status (JSON); None takes the policy out."""
        gauges = (self.ready, self.protected, self.suspended, self.last_success, self.failures)
        if status is None:
            for gauge in gauges:
                with contextlib.suppress(KeyError):
                    gauge.remove(namespace, name)
            return
        self.ready.labels(namespace, name).set(truth(status, "Ready") == "True")
        self.protected.labels(namespace, name).set(truth(status, "Protected") == "True")
        self.suspended.labels(namespace, name).set(condition(status, "Ready").get("reason") == "Suspended")
        self.failures.labels(namespace, name).set(int(str(status.get("consecutiveFailures", 0))))
        if last := status.get("lastSuccessfulTime"):
            self.last_success.labels(namespace, name).set(datetime.fromisoformat(str(last)).timestamp())


def condition(status: Mapping[str, object], kind: str) -> Mapping[str, object]:
    """The condition of type `kind` in a status (JSON); empty where there is none."""
    conditions = status.get("conditions")
    if isinstance(conditions, list):
        for entry in conditions:
            if isinstance(entry, Mapping) and entry.get("type") == kind:
                return entry
    return {}


def truth(status: Mapping[str, object], kind: str) -> str:
    """The status of a condition: "True", "False", "Unknown", or "" where there is none."""
    return str(condition(status, kind).get("status", ""))


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(level: str, style: str) -> None:
    """Send log lines to stderr, as `json` or as `text`."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if style == "json" else text)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(least)


@contextlib.asynccontextmanager
async def served(address: str, port: int, metrics: Metrics, healthy: Check, ready: Check) -> AsyncIterator[int]:
    """Serve /healthz, /readyz (200, or 503 with a sentence) and /metrics for the time of the block; gives the port."""

    def answer(check: Check) -> web.Response:
        problem = check()
        return web.Response(status=503 if problem else 200, text=(problem or "ok") + "\n")

    async def healthz(_: web.Request) -> web.Response:
        return answer(healthy)

    async def readyz(_: web.Request) -> web.Response:
        return answer(ready)

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address, port)
        await site.start()
        bound: int = runner.addresses[0][1]
        logger.info("serving /healthz, /readyz and /metrics on port %d", bound)
        yield bound
    finally:
        await runner.cleanup()
