"""How long an application is down, by capture method: `python -m tests.bench downtime`.

One GB of random data in one volume on the real cluster of tests/cluster, each method into a repository of its own, one
after the other.
"""

from __future__ import annotations

from lowtide_operator.api.values import parse_duration
from tests.bench.operator_bench import NAMESPACE
from tests.cluster import clusters
from tests.demo.install import install
from tests.demo.one_volume import OneVolume
from tests.s3 import s3_server

METHODS = ("Direct", "Snapshot", "Clone")
WRITE = "head -c 1000000000 /dev/urandom > /data/file && sync"


def measure(kube: clusters.Cluster) -> dict[str, dict[str, float]]:
    """For each method, the seconds of downtime and of upload, as the Snapshot's status has them."""
    found = {}
    kube.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait", "--timeout=120s", timeout=150)
    kube.kubectl("create", "namespace", NAMESPACE)
    with s3_server(address=kube.address) as s3:
        install(kube)
        app = OneVolume(kube, NAMESPACE)
        app.set_up(storage_class=kube.storage_class)
        app.shell(WRITE)
        for method in METHODS:
            app.repository(s3.repository(method.lower()), "a password for the bench", s3.environment)
            app.policy(method.lower(), method=method)
            status = app.snapshot(method.lower(), method.lower())
            found[method] = {name: parse_duration(status[name]).total_seconds() for name in ("downtime", "upload")}
            app.ready()
    kube.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    return found


def main(_: list[str]) -> int:
    """Measure, and print seconds and the ratio to Direct."""
    found = measure(clusters.cluster())
    for method, seconds in found.items():
        ratio = seconds["downtime"] / found["Direct"]["downtime"]
        down, upload = seconds["downtime"], seconds["upload"]
        print(f"{method:10} downtime {down:6.0f} s ({ratio:.2f} of Direct), upload {upload:6.0f} s", flush=True)
    return 0
