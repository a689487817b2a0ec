"""`make demo`: what Lowtide is for, on a real Kubernetes, with restic as the witness."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests import programs
from tests.cluster import clusters
from tests.demo.install import install, repository_secret
from tests.demo.shop import Shop
from tests.s3 import s3_server

NAMESPACE = "shop"
PASSWORD = "a password for the demo"
PAGE = "<h1>Low tide</h1>\n<p>This page was on the volume before the accident.</p>\n"
TABLE = (
    "create table orders (id int primary key, what text);"
    " insert into orders select n, 'order ' || n from generate_series(1, 1000) n"
)
COUNT = "select count(*) || ' orders, the last is ' || max(id) from orders"


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    print(f"\n\033[1m{title}\033[0m", flush=True)
    start = time.monotonic()
    yield
    print(f"   ({time.monotonic() - start:.1f} s)", flush=True)


def show(text: str) -> None:
    """Print what a program said, indented."""
    print("\n".join(f"   {line}" for line in text.rstrip().splitlines()), flush=True)


def main() -> None:
    """Run the demo. Raises where any part of it isn't as it should be, so that the exit code tells."""
    with step("1. A Kubernetes cluster"):
        kube = clusters.cluster()
    kubectl = kube.kubectl
    shop = Shop(kubectl, NAMESPACE)

    with s3_server(address=kube.address) as s3:
        with step("2. Lowtide, installed by Helm, and a shop: nginx with a page, PostgreSQL with a table"):
            kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait", "--timeout=120s", timeout=150)
            kubectl("create", "namespace", NAMESPACE)
            install(kube, namespaces=[NAMESPACE])
            shop.apply("shop.yaml", **kube.images.shop_values)
            shop.ready()
            shop.write_page(PAGE)
            shop.sql(TABLE)
            show(shop.served())
            show(shop.sql(COUNT))

        with step("3. A policy for both volumes as one group, and a Snapshot by hand"):
            repository = s3.repository("shop")
            shop.run(
                "apply", "-f", "-", stdin=repository_secret("shop-repository", repository, PASSWORD, s3.environment)
            )
            shop.apply("policy.yaml")
            shop.apply("snapshot.yaml")
            shop.condition("snapshots", "before-upgrade")
            show(shop.run("get", "snapshots.lowtide.dev", "before-upgrade", "-o", "wide"))
            show(shop.run("events", "--for", "snapshots.lowtide.dev/before-upgrade"))
            shop.ready()

        with step("4. The accident: the page is deleted, the table dropped"):
            shop.in_web("rm", "/srv/web/index.html")
            shop.sql("drop table orders")
            try:
                shop.page()
            except OSError as error:
                show(f"the page: {error}")
            else:
                raise AssertionError("the page is still there")

        with step("5. A Restore brings both back"):
            shop.apply("restore.yaml")
            shop.condition("restores", "undo-upgrade")
            show(shop.run("get", "restores.lowtide.dev", "undo-upgrade", "-o", "wide"))
            shop.ready()
            page, orders = shop.served(), shop.sql(COUNT)
            show(page)
            show(orders)
            if page != PAGE or not orders.startswith("1000 orders"):
                raise AssertionError("what came back is not what was there before")

        with step("6. restic, a program that we did not write, reads what Lowtide wrote"):
            environment = {**os.environ, **s3.environment, "RESTIC_REPOSITORY": repository, "RESTIC_PASSWORD": PASSWORD}
            for arguments in (["snapshots", "--compact"], ["check", "--read-data"]):
                done = subprocess.run(
                    [programs.program("restic"), "--no-cache", *arguments],
                    env=environment,
                    check=False,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
                show(f"$ restic {' '.join(arguments)}\n{done.stdout}")
                if done.returncode != 0:
                    raise AssertionError(f"restic {arguments[0]} ended with {done.returncode}")

    print("\nAll of it worked. The cluster stays up for the next run; `make down` stops it.")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(f"\nThe demo failed: {error}")
