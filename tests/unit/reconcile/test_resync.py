"""Where a resync looks for what runs left: also in a namespace that has no policy and no run any more, and beside one
that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import ClusterError, Forbidden, Unreachable
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.cluster.memory import Call, MemoryCluster
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


def refusing(namespace: str, error: type[ClusterError] = Forbidden) -> Callable[[Call], BaseException | None]:
    """Every LIST in `namespace` fails."""
    return lambda call: error("LIST refused") if (call.verb, call.namespace) == ("list", namespace) else None


def two_runs() -> MemoryCluster:
    cluster = MemoryCluster()
    for namespace in ("gone", "left"):
        cluster.put(kinds.SNAPSHOT, {"metadata": {"name": "one", "namespace": namespace}, "spec": {}})
    return cluster


@pytest.mark.parametrize("served", [("gone", "left"), ("left", "gone")], ids=str)
def test_a_served_namespace_that_is_gone_keeps_no_other_from_being_looked_at(
    served: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Its RoleBinding went with it: the API server answers 403 for ever."""
    cluster = two_runs()
    cluster.fault = refusing("gone")
    queue: WorkQueue[Key] = WorkQueue()
    gatherer = Gatherer(cluster, "cluster", "lowtide")
    unsettled = cast(Driver, SimpleNamespace(settled=lambda key, version: False))
    assert asyncio.run(Resync(cluster, served, queue, unsettled, gatherer).once()) == {"left"}
    assert len(queue) == 2, "the namespace's orphans, and the run"
    (line,) = (record.getMessage() for record in caplog.records)
    assert "namespace gone" in line


def test_runs_in_a_namespace_that_is_going_are_found_without_any_right_to_the_rest_of_it() -> None:
    """Else their finalizer would keep it for ever: an operator that starts hears of them in no other way."""
    cluster = two_runs()
    going = {"name": "gone", "deletionTimestamp": "2026-01-05T02:00:00Z"}
    cluster.put(kinds.NAMESPACE, {"metadata": going})
    whole = (kinds.SNAPSHOT, kinds.RESTORE, kinds.NAMESPACE)
    cluster.fault = lambda call: Forbidden("no") if call.namespace == "gone" and call.kind not in whole else None
    queue: WorkQueue[Key] = WorkQueue()
    unsettled = cast(Driver, SimpleNamespace(settled=lambda key, version: False))
    resync = Resync(cluster, ("gone", "left"), queue, unsettled, Gatherer(cluster, "cluster", "lowtide"))
    assert asyncio.run(resync.once()) == {"gone", "left"}
    assert len(queue) == 4, "both runs, and the orphans of both"


def test_a_namespace_of_applications_that_is_gone_keeps_no_served_one_from_being_looked_at() -> None:
    cluster = two_runs()
    cluster.fault = refusing("argocd")
    gatherer = Gatherer(cluster, "cluster", "lowtide", Argo(ArgoMode.PAUSE))
    unsettled = cast(Driver, SimpleNamespace(settled=lambda key, version: False))
    resync = Resync(cluster, ("gone", "left"), WorkQueue(), unsettled, gatherer)
    assert asyncio.run(resync.once()) == {"gone", "left"}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (refusing("gone", Unreachable), Unreachable),
        (lambda call: Forbidden("refused") if call.verb == "list" else None, Forbidden),
    ],
    ids=["no answer", "everything is refused"],
)
def test_a_round_that_has_to_be_made_again_soon_fails(
    fault: Callable[[Call], BaseException | None], error: type[ClusterError]
) -> None:
    cluster = two_runs()
    cluster.fault = fault
    queue: WorkQueue[Key] = WorkQueue()
    unsettled = cast(Driver, SimpleNamespace(settled=lambda key, version: False))
    resync = Resync(cluster, ("gone", "left"), queue, unsettled, Gatherer(cluster, "cluster", "lowtide"))
    with pytest.raises(error):
        asyncio.run(resync.once())
    assert len(queue) == (2 if error is Unreachable else 0), "what was found is looked at all the same"
