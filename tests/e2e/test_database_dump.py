"""docs/how-to/database-dump.yaml on a real Kubernetes: a real PostgreSQL is dumped over the network, and comes back."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lowtide_engine.contract import decode
from tests import programs
from tests.cluster.clusters import Cluster
from tests.cluster.waiting import wait_for
from tests.demo.install import repository_secret
from tests.demo.shop import Shop
from tests.s3 import S3Server, s3_server

pytestmark = [pytest.mark.cluster, pytest.mark.oracle, pytest.mark.s3]

MANIFEST = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "database-dump.yaml"
PASSWORD = "a password for the tests"
ROWS = "select count(*), md5(string_agg(id || what, ',' order by id)) from orders"


@pytest.fixture
def s3(cluster: Cluster) -> Iterator[S3Server]:
    """An S3 server that pods reach."""
    with s3_server(address=cluster.address) as server:
        yield server


@pytest.fixture
def shop(cluster: Cluster, namespace: str, s3: S3Server) -> Shop:
    """A shop with a table, a role that may read it with a password, and an empty repository."""
    shop = Shop(cluster.kubectl, namespace)
    shop.apply("shop.yaml", **cluster.images.shop_values)
    repository = s3.repository(namespace)
    shop.run("apply", "-f", "-", stdin=repository_secret("shop-repository", repository, PASSWORD, s3.environment))
    shop.run("create", "secret", "generic", "db-dumper", "--from-literal=PGPASSWORD=of the dumper")
    shop.ready()
    shop.sql("create table orders (id int primary key, what text)")
    shop.sql("insert into orders select n, md5(n::text) from generate_series(1, 200000) n")
    shop.sql("create role dumper login password 'of the dumper'")
    shop.sql("grant pg_read_all_data to dumper")
    restic(s3, shop, "init")
    return shop


def restic(s3: S3Server, shop: Shop, *arguments: str) -> str:
    """What restic's own program says of the shop's repository."""
    environment = {
        **os.environ,
        **s3.environment,
        "RESTIC_REPOSITORY": s3.repository(shop.namespace),
        "RESTIC_PASSWORD": PASSWORD,
    }
    done = subprocess.run(
        [programs.program("restic"), "--no-cache", *arguments],
        env=environment,
        check=True,
        text=True,
        capture_output=True,
        timeout=120,
    )
    return done.stdout


def job(cluster: Cluster, shop: Shop, then: str = "") -> dict[str, Any]:
    """The Job of the page with the cluster's images, and the database's address (there may be no DNS). Its command is
    followed by the shell's `then`."""
    body: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
    mover, writer = body["spec"]["template"]["spec"]["containers"]
    values = cluster.images.shop_values
    mover["image"], writer["image"] = cluster.images.lowtide, values["apps_image"]
    writer["env"] = [{"name": "PATH", "value": f"{values['postgres_bin']}:/usr/local/bin:/usr/bin:/bin"}]
    for container in (mover, writer):
        container["imagePullPolicy"] = "IfNotPresent"
    address = shop.run("get", "service", "db", "-o", "jsonpath={.spec.clusterIP}")
    dump = [address if word == "db" else word for word in writer["args"]]
    writer["args"] = ["sh", "-c", f"{shlex.join(dump)}; {then}"] if then else dump
    return body


def run(shop: Shop, body: dict[str, Any]) -> tuple[bool, Any]:
    """Whether the Job was complete in the end, and what its mover says of itself."""
    shop.run("apply", "-f", "-", stdin=json.dumps(body))
    ended: dict[str, str] = {}

    def over() -> bool:
        status = shop.kubectl.get("-n", shop.namespace, "job", "db-dump").get("status", {})
        ended.update({entry["type"]: entry["status"] for entry in status.get("conditions", [])})
        return "True" in (ended.get("Complete"), ended.get("Failed"))

    wait_for("the Job db-dump has ended", over, within=300)
    (pod,) = shop.kubectl.get("-n", shop.namespace, "pods", "-l", "job-name=db-dump")["items"]
    (mover,) = (entry for entry in pod["status"]["containerStatuses"] if entry["name"] == "mover")
    return ended.get("Complete") == "True", decode(mover["state"]["terminated"]["message"].encode())


def test_a_dump_is_restored_into_a_working_server(cluster: Cluster, shop: Shop, s3: S3Server) -> None:
    complete, result = run(shop, job(cluster, shop))
    assert complete, f"{result.message}: {shop.run('logs', 'job/db-dump', '--container', 'writer')}"

    text = restic(s3, shop, "dump", "--tag", "db-dump", "latest", "/dumps/shop.sql")
    shop.sql("create database again")
    shop.run("exec", "-i", "db-0", "--", "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "again", stdin=text)

    rows = shop.run("exec", "db-0", "--", "psql", "-XAt", "-d", "again", "-c", ROWS).strip()
    assert rows == shop.sql(ROWS)
    assert rows.startswith("200000|")


def test_a_dump_that_fails_after_writing_everything_is_not_stored(cluster: Cluster, shop: Shop, s3: S3Server) -> None:
    complete, result = run(shop, job(cluster, shop, then="[ $? = 0 ] && exit 3"))

    assert not complete
    assert (result.reason, "code 3" in result.message) == ("StreamFailed", True)
    assert json.loads(restic(s3, shop, "snapshots", "--json")) == []
