"""How long an application is down, by capture method: `python -m tests.bench downtime`.

One GB of random data in one volume on the real cluster of tests/cluster, each method into repositories of its own, one
after the other: once as fast as this machine's own S3 server takes it, which is faster than any network, and once over
a line of 100 Mbit/s.
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
LINES = {"loopback": {}, "100 Mbit/s": {"limitUpload": 100_000_000 // 8 // 1024}}
"""What a policy's repository says of the line, by its name."""


def measure(kube: clusters.Cluster) -> dict[str, dict[str, dict[str, float]]]:
    """For each line and method, the seconds of downtime and of upload, as the Snapshot's status has them."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    kube.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait", "--timeout=120s", timeout=150)
    kube.kubectl("create", "namespace", NAMESPACE)
    with s3_server(address=kube.address) as s3:
        install(kube)
        app = OneVolume(kube, NAMESPACE)
        app.set_up(storage_class=kube.storage_class)
        app.shell(WRITE)
        for number, (line, limits) in enumerate(LINES.items()):
            found[line] = {}
            for method in METHODS:
                name = f"{method.lower()}-{number}"
                app.repository(s3.repository(name), "a password for the bench", s3.environment)
                app.policy(name, repository=limits, method=method)
                status = app.snapshot(name, name, within=900)
                found[line][method] = {
                    what: parse_duration(status[what]).total_seconds() for what in ("downtime", "upload")
                }
                app.ready()
    kube.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    return found


def main(_: list[str]) -> int:
    """Measure, and print seconds and the ratio to Direct."""
    for line, methods in measure(clusters.cluster()).items():
        for method, seconds in methods.items():
            ratio = seconds["downtime"] / methods["Direct"]["downtime"]
            down, upload = seconds["downtime"], seconds["upload"]
            print(
                f"{line:10} {method:10} downtime {down:6.0f} s ({ratio:.2f} of Direct), upload {upload:6.0f} s",
                flush=True,
            )
    return 0
