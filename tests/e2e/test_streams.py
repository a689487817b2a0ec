"""Streams on a real Kubernetes: a real PostgreSQL is dumped by a policy, and comes back into a working server."""

from __future__ import annotations

import json
import os
import subprocess

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


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    """Lowtide on the cluster, for all namespaces, which may run the images of streams."""
    install(cluster, values={"streams.allow": "true"})
    return cluster


@pytest.fixture
def shop(installed: Cluster, namespace: str, s3: S3Server) -> Shop:
    """A shop with a table, a role that may read it with a password, and a policy over its dump and its volume."""
    shop = Shop(installed.kubectl, namespace)
    shop.apply("shop.yaml", **installed.images.shop_values)
    repository = repository_secret("repository", s3.repository(namespace), PASSWORD, s3.environment)
    shop.run("apply", "-f", "-", stdin=repository)
    shop.ready()
    shop.sql("create table orders (id int primary key, what text)")
    shop.sql("insert into orders select n, md5(n::text) from generate_series(1, 200000) n")
    shop.sql("create role dumper login password 'of the dumper'")
    shop.sql("grant pg_read_all_data to dumper")
    dumper(installed, shop, "of the dumper")
    policy = {
        "repository": {"secretName": "repository"},
        "volumes": {"claims": ["db-data"]},
        "capture": {"method": "Direct"},
        "mover": {"retry": {"limit": 0}},
        "streams": [
            {
                "name": STREAM,
                "timeout": "5m",
                "container": {
                    "image": installed.images.apps,
                    "command": ["pg_dump", "--username", "dumper", "--no-owner", "--no-privileges", "postgres"],
                    "secretName": "db-dumper",
                },
            }
        ],
    }
    apply(shop, "BackupPolicy", "shop", policy)
    return shop


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


def rows(shop: Shop, database: str) -> str:
    return shop.run("exec", "db-0", "--", "psql", "-XAt", "-d", database, "-c", ROWS).strip()


def test_a_dump_is_restored_into_a_working_server_and_one_that_fails_is_quoted(
    installed: Cluster, shop: Shop, s3: S3Server
) -> None:
    apply(shop, "Snapshot", "good", {"policyName": "shop"})
    shop.condition("snapshots", "good")
    status = shop.kubectl.get("-n", shop.namespace, "snapshots.lowtide.dev", "good")["status"]
    (stream,) = status["streams"]
    (job,) = [job for job in status["jobs"] if job["purpose"] == "stream"]
    assert job["endedAt"] <= status["quiesce"]["startTime"], "the database was stopped before its dump was stored"
    shop.ready()

    # By restic's own program, from anywhere.
    text = restic(s3, shop, "dump", stream["snapshotId"], f"/streams/{STREAM}")
    assert len(text.encode()) == stream["bytes"]
    shop.sql("create database by_restic")
    shop.run("exec", "-i", "db-0", "--", "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "by_restic", stdin=text)
    assert rows(shop, "by_restic") == rows(shop, "postgres")
    assert rows(shop, "postgres").startswith("200000|")

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
    assert len(json.loads(restic(s3, shop, "snapshots", "--json", "--tag", f"lowtide:stream={STREAM}"))) == 1


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
