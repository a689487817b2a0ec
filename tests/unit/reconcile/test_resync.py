"""Where a resync looks for what runs left: also in a namespace that has no policy and no run any more."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.cluster.memory import MemoryCluster
from lowtide_operator.planning.allowed import ArgoMode
from lowtide_operator.planning.naming import COPY_LABEL, HELD_LABEL, RUN_NAMESPACE_LABEL
from lowtide_operator.reconcile.driver import Driver
from lowtide_operator.reconcile.gather import Gatherer
from lowtide_operator.reconcile.keepers import Argo
from lowtide_operator.reconcile.keys import Key
from lowtide_operator.reconcile.queue import WorkQueue
from lowtide_operator.reconcile.resync import Resync


@pytest.mark.parametrize(
    ("kind", "label", "found"),
    [
        (kinds.DEPLOYMENT, HELD_LABEL, {"left"}),
        (kinds.CRON_JOB, HELD_LABEL, {"left"}),
        (kinds.SCALED_OBJECT, HELD_LABEL, {"left"}),
        (kinds.CLAIM, COPY_LABEL, {"left"}),
        (kinds.VOLUME_SNAPSHOT, COPY_LABEL, {"left"}),
        (kinds.DEPLOYMENT, "app", set()),
    ],
    ids=str,
)
@pytest.mark.parametrize("served", [(), ("left",)], ids=["everywhere", "one namespace"])
def test_what_is_left_in_a_namespace_is_found(kind: Kind, label: str, found: set[str], served: tuple[str, ...]) -> None:
    cluster = MemoryCluster()
    cluster.put(kind, {"metadata": {"name": "one", "namespace": "left", "labels": {label: "uid-gone"}}})
    queue: WorkQueue[Key] = WorkQueue()
    gatherer = Gatherer(cluster, "cluster", "lowtide")
    nobody = cast(Driver, None)
    assert asyncio.run(Resync(cluster, served, queue, nobody, gatherer).once()) == found
    assert len(queue) == len(found)


@pytest.mark.parametrize(("served", "found"), [((), {"left"}), (("left", "shop"), {"left"}), (("shop",), set())])
def test_a_namespace_whose_run_left_an_application_paused_is_found(served: tuple[str, ...], found: set[str]) -> None:
    """Only one that this installation serves: another one may pause Applications beside it."""
    cluster = MemoryCluster()
    labels = {RUN_NAMESPACE_LABEL: "left"}
    cluster.put(kinds.APPLICATION, {"metadata": {"name": "one", "namespace": "argocd", "labels": labels}})
    gatherer = Gatherer(cluster, "cluster", "lowtide", Argo(ArgoMode.PAUSE))
    assert asyncio.run(Resync(cluster, served, WorkQueue(), cast(Driver, None), gatherer).once()) == found
