"""The whole story on a real Kubernetes: real pods, mounts and S3, and programs that are not ours as witnesses."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.cluster.clusters import Cluster
from tests.cluster.waiting import wait_for
from tests.demo.install import repository_secret
from tests.demo.shop import Shop, manifest
from tests.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.oracle, pytest.mark.s3]

PASSWORD = "a password for the tests"
SECRET = "shop-repository"
FILES = (
    "cd /srv/web && (find . -mindepth 1 -printf '%y %m %U:%G %s %T@ %p -> %l\\n' | sort"
    " && find . -type f -exec sha256sum {} + | sort) | cat -v"
)


@pytest.fixture
def shop(installed: Cluster, namespace: str, s3: S3Server) -> Shop:
    """A shop with a page, some files of odd kinds, and a table with rows; and the Secret of a repository of its own."""
    shop = Shop(installed.kubectl, namespace)
    shop.apply("shop.yaml", **installed.images.shop_values)
    shop.run("apply", "-f", "-", stdin=repository_secret(SECRET, s3.repository(namespace), PASSWORD, s3.environment))
    shop.ready()
    shop.write_page("<h1>before</h1>")
    shop.in_web(
        "sh",
        "-ec",
        "cd /srv/web; mkdir -p deep/er; head -c 3000000 /dev/urandom > deep/er/random; ln -s ../index.html deep/link;"
        " ln deep/er/random deep/hard; truncate -s 5M deep/sparse; chmod 0640 deep/er/random;"
        " touch -d '2001-02-03 04:05:06.789' deep/er; mkfifo deep/fifo;"
        " : > deep/empty; printf x > \"$(printf 'deep/\\377name')\"",
    )
    shop.sql("create table orders (id int primary key, what text)")
    shop.sql("insert into orders select n, 'order ' || n from generate_series(1, 1000) n")
    return shop


def restic(s3: S3Server, shop: Shop, *arguments: str) -> str:
    """What restic's own program says of the shop's repository."""
    environment = {
        **os.environ,
        **s3.environment,
        "RESTIC_REPOSITORY": s3.repository(shop.namespace),
        "RESTIC_PASSWORD": PASSWORD,
        "TZ": "UTC",
    }
    done = subprocess.run(
        [programs.program("restic"), "--no-cache", *arguments],
        env=environment,
        check=False,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, f"restic {arguments}: {done.stderr}"
    return done.stdout


def listed(s3: S3Server, shop: Shop) -> set[str]:
    """The ids of all snapshots in the shop's repository."""
    return {entry["id"] for entry in json.loads(restic(s3, shop, "snapshots", "--json"))}


def dump(shop: Shop) -> str:
    """The database as text, by PostgreSQL's own program."""
    return shop.run("exec", "db-0", "--", "pg_dump", "--inserts", "--restrict-key=lowtide", "postgres")


def status(shop: Shop, kind: str, name: str) -> Any:
    return shop.kubectl.get("-n", shop.namespace, f"{kind}.lowtide.dev", name)["status"]


def failed(shop: Shop, kind: str, name: str) -> dict[str, str]:
    """The Ready condition of an object that stalls."""
    found: dict[str, dict[str, str]] = {}

    def stalled() -> bool:
        conditions = (
            shop.kubectl.get("-n", shop.namespace, f"{kind}.lowtide.dev", name).get("status", {}).get("conditions", [])
        )
        found.update({entry["type"]: entry for entry in conditions})
        return found.get("Stalled", {}).get("status") == "True" or found.get("Ready", {}).get("status") == "True"

    wait_for(f"{kind} {name} stalls", stalled, within=300, every=0.5)
    assert found["Ready"]["status"] == "False", found["Ready"]
    return found["Ready"]


def test_what_was_backed_up_as_a_group_comes_back_byte_for_byte(shop: Shop, s3: S3Server, tmp_path: Path) -> None:
    files, rows = shop.in_web("sh", "-ec", FILES), dump(shop)

    shop.apply("policy.yaml")
    shop.apply("snapshot.yaml")
    shop.condition("snapshots", "before-upgrade")
    assert shop.replicas() == {"web": 2, "db": 1}
    shop.ready()
    snapshot = status(shop, "snapshots", "before-upgrade")
    assert {volume["claim"] for volume in snapshot["volumes"]} == {"web-data", "db-data"}
    assert all(volume["snapshotId"] and volume["bytes"] > 0 for volume in snapshot["volumes"])
    assert snapshot["downtime"]

    # Plain restic reads it, and gives back what was there.
    assert "web-data" in restic(s3, shop, "snapshots")
    restic(s3, shop, "check", "--read-data")
    restic(s3, shop, "restore", "latest", "--tag", "lowtide:claim=web-data", "--target", str(tmp_path))
    restored = subprocess.run(
        ["sh", "-ec", FILES.replace("/srv/web", str(tmp_path / "volumes" / "web-data"))],
        check=True,
        capture_output=True,
        text=True,
    )
    assert sums(restored.stdout) == sums(files)

    # Both are damaged in every way: changed, deleted, added.
    shop.in_web(
        "sh",
        "-ec",
        "cd /srv/web; echo after > index.html; rm -r deep/er; echo stray > stray; rm deep/link; mkdir deep/link",
    )
    shop.sql("drop table orders; create table strays (id int)")

    shop.apply("restore.yaml")
    shop.condition("restores", "undo-upgrade")
    shop.ready()
    assert shop.served() == "<h1>before</h1>"
    assert without_root(shop.in_web("sh", "-ec", FILES)) == without_root(files)
    assert dump(shop) == rows

    # The same Restore, applied again without its status, is done and does nothing.
    shop.write_page("<h1>after the restore</h1>")
    shop.run("delete", "restores.lowtide.dev", "undo-upgrade", "--timeout=60s")
    shop.apply("restore.yaml")
    shop.condition("restores", "undo-upgrade")
    assert shop.page() == "<h1>after the restore</h1>"


def test_a_new_claim_gets_the_data_and_the_old_one_is_left_alone(shop: Shop, s3: S3Server) -> None:
    shop.apply("policy.yaml")
    shop.apply("snapshot.yaml")
    shop.condition("snapshots", "before-upgrade")
    shop.ready()
    files = shop.in_web("sh", "-ec", FILES)
    shop.write_page("<h1>newer</h1>")
    shop.run(
        "apply",
        "-f",
        "-",
        stdin=manifest("restore.yaml")
        .replace("    - claim: db-data\n", "")
        .replace("- claim: web-data", "- claim: web-data\n      newClaim: {name: web-copy}"),
    )
    shop.condition("restores", "undo-upgrade")
    assert shop.page() == "<h1>newer</h1>"
    shop.run(
        "patch",
        "deployment",
        "web",
        "--type=json",
        "-p",
        '[{"op": "replace", "value": "web-copy",'
        ' "path": "/spec/template/spec/volumes/0/persistentVolumeClaim/claimName"}]',
    )
    shop.ready()
    assert shop.served() == "<h1>before</h1>"
    assert without_root(shop.in_web("sh", "-ec", FILES)) == without_root(files)


def test_deleting_a_snapshot_forgets_its_data_only_where_it_says_so(shop: Shop, s3: S3Server) -> None:
    shop.apply("policy.yaml")
    shop.apply("snapshot.yaml")
    kept = manifest("snapshot.yaml")
    shop.run(
        "apply",
        "-f",
        "-",
        stdin=kept.replace("before-upgrade", "to-delete").replace(
            "policyName: shop", "policyName: shop, deletionPolicy: Delete"
        ),
    )
    shop.condition("snapshots", "before-upgrade")
    shop.condition("snapshots", "to-delete")
    run = status(shop, "snapshots", "to-delete")
    before = listed(s3, shop)
    shop.run("delete", "snapshots.lowtide.dev", "before-upgrade", "--timeout=120s", timeout=150)
    assert listed(s3, shop) == before
    shop.run("delete", "snapshots.lowtide.dev", "to-delete", "--timeout=120s", timeout=150)
    forgotten = before - listed(s3, shop)
    assert forgotten > {volume["snapshotId"] for volume in run["volumes"]}
    assert len(forgotten) == 3, "two volumes and their verdict"


def test_a_wrong_password_fails_before_anything_is_stopped(shop: Shop, s3: S3Server) -> None:
    restic(s3, shop, "init")
    generation = shop.run("get", "deployment", "web", "-o", "jsonpath={.metadata.generation}")
    shop.run(
        "apply", "-f", "-", stdin=repository_secret(SECRET, s3.repository(shop.namespace), "another", s3.environment)
    )
    shop.apply("policy.yaml")
    shop.apply("snapshot.yaml")
    ready = failed(shop, "snapshots", "before-upgrade")
    assert "password" in ready["message"]
    assert "another" not in ready["message"]
    assert shop.run("get", "deployment", "web", "-o", "jsonpath={.metadata.generation}") == generation


def test_a_snapshot_that_is_not_there_is_no_empty_success(shop: Shop) -> None:
    shop.apply("policy.yaml")
    shop.apply("restore.yaml")
    ready = failed(shop, "restores", "undo-upgrade")
    assert "before-upgrade" in ready["message"]
    assert shop.page() == "<h1>before</h1>"


def test_no_secret_is_in_jobs_events_status_or_logs(installed: Cluster, shop: Shop, s3: S3Server) -> None:
    shop.apply("policy.yaml")
    shop.apply("snapshot.yaml")
    shop.condition("snapshots", "before-upgrade")
    texts = [
        shop.run("get", "jobs,pods,events,snapshots.lowtide.dev,backuppolicies.lowtide.dev", "-o", "yaml"),
        installed.kubectl("-n", "lowtide", "logs", "deployment/lowtide", "--tail=-1"),
    ]
    for text in texts:
        assert PASSWORD not in text
        assert s3.secret_key not in text
    account = "system:serviceaccount:lowtide:lowtide"
    answer = installed.kubectl.run("auth", "can-i", "get", "secrets", "-n", shop.namespace, "--as", account)
    assert answer.stdout.strip() == "no"


def sums(listing: str) -> list[str]:
    """The checksums of a listing by FILES."""
    return [line for line in listing.splitlines() if len(line.split()[0]) == 64]


def without_root(listing: str) -> list[str]:
    """A listing by FILES without change times that a mount makes."""
    return [line for line in listing.splitlines() if "lost+found" not in line]
