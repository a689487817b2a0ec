"""Streams on a real Kubernetes: a real PostgreSQL is dumped by a policy, and comes back into a working server."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
import yaml

from tests import programs
from tests.cluster.clusters import Cluster
from tests.cluster.waiting import wait_for
from tests.demo.install import install, repository_secret
from tests.demo.shop import Shop
from tests.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.oracle, pytest.mark.s3]

PASSWORD = "a password for the tests"
ROWS = "select count(*), md5(string_agg(id || what, ',' order by id)) from orders"
STREAM = "shop.sql"


@pytest.fixture
def installed(cluster: Cluster) -> Cluster:
    """Lowtide on the cluster, for all namespaces, which may run the images of streams."""
    install(cluster, values={"streams.allow": "true"})
    return cluster


@pytest.fixture
def shop(installed: Cluster, namespace: str, s3: S3Server) -> Shop:
    """A shop with a table, a role that may read it with a password, and a policy over its dump and its volume."""
    shop = stocked(installed, namespace, s3)
    shop.sql("create role dumper login password 'of the dumper'")
    shop.sql("grant pg_read_all_data to dumper")
    dumper(installed, shop, "of the dumper")
    container = {
        "image": installed.images.apps,
        "command": ["pg_dump", "--username", "dumper", "--no-owner", "--no-privileges", "postgres"],
        "secretName": "db-dumper",
    }
    policy(shop, "shop", container=container)
    return shop


@pytest.fixture
def open_shop(cluster: Cluster, namespace: str, s3: S3Server) -> Shop:
    """A shop with a table, in whose pods commands may be executed; no image may be named."""
    install(cluster, values={"exec.namespaces": f"{{{namespace}}}"})
    return stocked(cluster, namespace, s3)


def stocked(cluster: Cluster, namespace: str, s3: S3Server) -> Shop:
    """A shop with a table and a repository."""
    shop = Shop(cluster.kubectl, namespace)
    shop.apply("shop.yaml", **cluster.images.shop_values)
    repository = repository_secret("repository", s3.repository(namespace), PASSWORD, s3.environment)
    shop.run("apply", "-f", "-", stdin=repository)
    shop.ready()
    shop.sql("create table orders (id int primary key, what text)")
    shop.sql("insert into orders select n, md5(n::text) from generate_series(1, 200000) n")
    return shop


def policy(shop: Shop, name: str, *, volumes: bool = True, **stream: Any) -> None:
    """A policy of a stream that comes as `stream` says, and of the database's volume."""
    group = {"volumes": {"claims": ["db-data"]}, "capture": {"method": "Direct"}} if volumes else {}
    streams = [{"name": STREAM, "timeout": "5m", **stream}]
    common = {"repository": {"secretName": "repository"}, "mover": {"retry": {"limit": 0}}}
    apply(shop, "BackupPolicy", name, {**common, **group, "streams": streams})


def in_database(*command: str) -> dict[str, Any]:
    """A stream's command, executed in the pod of the database."""
    return {"workload": {"kind": "StatefulSet", "name": "db"}, "command": list(command)}


def apply(shop: Shop, kind: str, name: str, spec: object) -> None:
    body = {"apiVersion": "lowtide.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    shop.run("apply", "-f", "-", stdin=yaml.safe_dump(body))


def dumper(cluster: Cluster, shop: Shop, password: str) -> None:
    """The Secret of the command: what PostgreSQL's programs want of their environment (there may be no DNS)."""
    programs_path = f"{cluster.images.shop_values['postgres_bin']}:/usr/local/bin:/usr/bin:/bin"
    address = shop.run("get", "service", "db", "-o", "jsonpath={.spec.clusterIP}")
    data = {"PGPASSWORD": password, "PGHOST": address, "PATH": programs_path}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db-dumper"}, "stringData": data}
    shop.run("apply", "-f", "-", stdin=json.dumps(body))


def restic(s3: S3Server, shop: Shop, *arguments: str) -> str:
    """What restic's own program says of the shop's repository."""
    environment = {
        **os.environ,
        **s3.environment,
        "RESTIC_REPOSITORY": s3.repository(shop.namespace),
        "RESTIC_PASSWORD": PASSWORD,
    }
    command = [programs.program("restic"), "--no-cache", *arguments]
    done = subprocess.run(command, env=environment, check=True, text=True, capture_output=True, timeout=120)
    return done.stdout


def stored(s3: S3Server, shop: Shop) -> list[Any]:
    """The snapshots of the stream."""
    return json.loads(restic(s3, shop, "snapshots", "--json", "--tag", f"lowtide:stream={STREAM}"))  # type: ignore[no-any-return]


def rows(shop: Shop, database: str) -> str:
    return shop.run("exec", "db-0", "--", "psql", "-XAt", "-d", database, "-c", ROWS).strip()


def test_a_dump_is_restored_into_a_working_server_and_one_that_fails_is_quoted(
    installed: Cluster, shop: Shop, s3: S3Server
) -> None:
    stream = dumped(shop)
    compare_by_restic(s3, shop, stream)

    # By a Restore, as a file in a new claim.
    new = {"claim": "dump", "path": "/streams", "newClaim": {"name": "dump", "size": "256Mi"}}
    source = {"repository": {"secretName": "repository", "id": stream["snapshotId"]}}
    apply(shop, "Restore", "dump", {"source": source, "overwrite": "Merge", "volumes": [new]})
    shop.condition("restores", "dump")
    shop.sql("create database by_lowtide owner dumper")
    load(installed, shop)
    assert rows(shop, "by_lowtide") == rows(shop, "postgres")

    # A command that fails: the run fails with its words, and nothing is stopped for it.
    dumper(installed, shop, "not of the dumper")
    before = shop.run("get", "pod", "db-0", "-o", "jsonpath={.metadata.uid}")
    apply(shop, "Snapshot", "bad", {"policyName": "shop"})
    with pytest.raises(AssertionError, match=r"StreamFailed.*password authentication failed"):
        shop.condition("snapshots", "bad", within=180)
    assert shop.run("get", "pod", "db-0", "-o", "jsonpath={.metadata.uid}") == before
    assert len(stored(s3, shop)) == 1


def dumped(shop: Shop) -> dict[str, Any]:
    """The stream of a good Snapshot: the dump was stored before the database was stopped."""
    apply(shop, "Snapshot", "good", {"policyName": "shop"})
    shop.condition("snapshots", "good")
    status = shop.kubectl.get("-n", shop.namespace, "snapshots.lowtide.dev", "good")["status"]
    (stream,) = status["streams"]
    (job,) = [job for job in status["jobs"] if job["purpose"] == "stream"]
    assert job["endedAt"] <= status["quiesce"]["startTime"], "the database was stopped before its dump was stored"
    shop.ready()
    found: dict[str, Any] = stream
    return found


def compare_by_restic(s3: S3Server, shop: Shop, stream: dict[str, Any]) -> None:
    """Bring the dump into another database by restic's own program, from anywhere, and compare."""
    text = restic(s3, shop, "dump", stream["snapshotId"], f"/streams/{STREAM}")
    assert len(text.encode()) == stream["bytes"]
    shop.sql("create database by_restic")
    shop.run("exec", "-i", "db-0", "--", "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "by_restic", stdin=text)
    assert rows(shop, "by_restic") == rows(shop, "postgres")
    assert rows(shop, "postgres").startswith("200000|")


def failed(shop: Shop, name: str) -> str:
    """What a Snapshot says that must fail: reason and message."""
    with pytest.raises(AssertionError) as caught:
        shop.condition("snapshots", name, within=240)
    return str(caught.value)


def test_a_dump_by_the_databases_own_pod_is_restored_into_a_working_server_and_one_that_fails_is_quoted(
    open_shop: Shop, s3: S3Server
) -> None:
    shop = open_shop
    policy(shop, "shop", exec=in_database("pg_dump", "--no-owner", "--no-privileges", "postgres"))
    compare_by_restic(s3, shop, dumped(shop))

    before = shop.run("get", "pod", "db-0", "-o", "jsonpath={.metadata.uid}")
    for name, command, words in (
        ("no-database", ("pg_dump", "nowhere"), 'database "nowhere" does not exist'),
        ("no-program", ("no-such-dump",), "no-such-dump"),
        ("no-output", ("true",), "without a single byte"),
        ("fails-late", ("sh", "-c", "pg_dump postgres; echo 'the disk is full' >&2; exit 7"), "code 7"),
    ):
        policy(shop, name, exec=in_database(*command))
        apply(shop, "Snapshot", name, {"policyName": name})
        said = failed(shop, name)
        assert "StreamEmpty" in said if name == "no-output" else "StreamFailed" in said
        assert words in said
    assert shop.run("get", "pod", "db-0", "-o", "jsonpath={.metadata.uid}") == before, "it was stopped"
    assert len(stored(s3, shop)) == 1


def test_a_pod_that_goes_away_while_its_command_runs_fails_the_run(open_shop: Shop, s3: S3Server) -> None:
    shop = open_shop
    script = "head -c 5000000 /dev/urandom; touch /tmp/written; sleep 600"
    policy(shop, "shop", volumes=False, exec=in_database("sh", "-c", script))
    apply(shop, "Snapshot", "gone", {"policyName": "shop"})
    wait_for(
        "the command runs",
        lambda: shop.kubectl.run("-n", shop.namespace, "exec", "db-0", "--", "ls", "/tmp/written").returncode == 0,
        within=120,
    )
    shop.run("delete", "pod", "db-0", "--grace-period=1")
    said = failed(shop, "gone")
    assert "StreamFailed" in said
    assert "db-0" in said
    assert stored(s3, shop) == []


def test_two_gigabytes_come_through_in_constant_memory(open_shop: Shop) -> None:
    """The limit of the container that brings it is an eighth of that, and the operator's memory stays as it is."""
    shop = open_shop
    policy(shop, "shop", volumes=False, exec=in_database("head", "-c", "2147483648", "/dev/zero"))
    apply(shop, "Snapshot", "large", {"policyName": "shop"})
    shop.condition("snapshots", "large", within=300)
    (stream,) = shop.kubectl.get("-n", shop.namespace, "snapshots.lowtide.dev", "large")["status"]["streams"]
    assert stream["bytes"] == 2**31


def test_a_namespace_that_the_chart_does_not_name_is_refused(open_shop: Shop, cluster: Cluster, s3: S3Server) -> None:
    shop = open_shop
    install(cluster)
    policy(shop, "shop", exec=in_database("pg_dump", "postgres"))
    before = shop.run("get", "pod", "db-0", "-o", "jsonpath={.metadata.uid}")
    apply(shop, "Snapshot", "refused", {"policyName": "shop"})
    said = failed(shop, "refused")
    assert "StreamsNotAllowed" in said
    assert "exec.namespaces" in said
    assert shop.run("get", "pod", "db-0", "-o", "jsonpath={.metadata.uid}") == before


def load(cluster: Cluster, shop: Shop) -> None:
    """Feed the file of the claim `dump` to the server, by a pod that mounts it."""
    container = {
        "name": "load",
        "image": cluster.images.apps,
        "command": [
            "psql",
            "-Xq",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "dumper",
            "-d",
            "by_lowtide",
            "-f",
            f"/dump/{STREAM}",
        ],
        "envFrom": [{"secretRef": {"name": "db-dumper"}}],
        "volumeMounts": [{"name": "dump", "mountPath": "/dump"}],
    }
    spec = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532},
        "containers": [container],
        "volumes": [{"name": "dump", "persistentVolumeClaim": {"claimName": "dump"}}],
    }
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "load"}, "spec": spec}
    shop.run("apply", "-f", "-", stdin=json.dumps(body))
    phase = ""

    def over() -> bool:
        nonlocal phase
        phase = shop.kubectl.get("-n", shop.namespace, "pod", "load")["status"].get("phase", "")
        return phase in ("Succeeded", "Failed")

    wait_for("the dump was read", over, within=120)
    assert phase == "Succeeded", shop.run("logs", "load")
