"""Streams against a real API server: the Jobs and their pods are real, what the commands write is played."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lowtide_operator.cluster import kinds
from tests.cluster.controlplane import ControlPlane
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.kills import killed_at_every_change
from tests.integration.operator_world.movers import Play, failure, options_of
from tests.integration.operator_world.process import Operator
from tests.integration.operator_world.world import PATIENCE, World, world

pytestmark = pytest.mark.apiserver

STREAM = {
    "name": "shop.sql",
    "container": {"image": "played", "command": ["pg_dump", "--host", "db"], "secretName": "db-dumper"},
}


FROM_POD = {
    "name": "shop.sql",
    "exec": {"workload": {"kind": "StatefulSet", "name": "db"}, "command": ["pg_dump", "$(USER)", "shop"]},
}


@pytest.fixture
def shop(control_plane: ControlPlane, tmp_path: Path) -> Iterator[World]:
    """A shop whose operator runs the commands of streams."""
    with world(control_plane, tmp_path) as made:
        made.operator = operator(made, allow_streams="true", exec_namespaces=made.namespace, exec_account="default")
        yield made


def operator(shop: World, **settings: str) -> Operator:
    return Operator(shop.plane.kubeconfig, shop.folder / "operator.log", shop.namespace, **settings)


def fingerprint(shop: World) -> str:
    """Everything that the operator may change, as it is now."""
    jobs = sorted(job["metadata"]["name"] for job in shop.api.list(kinds.JOB, shop.namespace))
    return json.dumps([shop.status(kinds.SNAPSHOT, "first"), shop.counts(), shop.held(), jobs], sort_keys=True)


def is_stream(words: list[str]) -> bool:
    return any(name == "--stream" for name, _ in options_of(words))


@pytest.mark.parametrize("stream", [STREAM, FROM_POD], ids=["container", "exec"])
def test_an_operator_killed_at_every_step_stores_a_stream_once_and_before_anything_is_stopped(
    shop: World, stream: dict[str, Any]
) -> None:
    """SIGKILL whenever the world changed, until something is to be stopped: each new status or Job ends its process."""
    counts: list[dict[str, int]] = []
    pods: list[dict[str, Any]] = []

    def script(words: list[str], before: int) -> Play | None:
        if is_stream(words):
            counts.append(shop.counts())
            pods.extend(p for p in shop.api.list(kinds.POD, shop.namespace, "lowtide.dev/purpose=stream"))
        return None

    shop.movers.script = script
    shop.policy(streams=[stream], volumes={"claims": ["web-data"]})
    shop.snapshot()
    kills = killed_at_every_change(
        shop,
        fingerprint,
        over=lambda: shop.status(kinds.SNAPSHOT, "first").keys() & {"quiesce", "endTime"},
        within=240,
    )
    assert kills >= 3
    shop.operator.start()
    status = shop.await_ready(kinds.SNAPSHOT, "first")
    assert counts == [shop.wanted_counts()]
    (stored,) = status["streams"]
    assert (stored["outcome"], stored["bytes"]) == ("Stored", 3000)
    (verdict,) = [words for words in shop.movers.commands if words[0] == "verdict"]
    assert ("--member", stored["snapshotId"]) in options_of(verdict)
    (job,) = [job for job in status["jobs"] if job["purpose"] == "stream"]
    assert job["endedAt"] <= status["quiesce"]["startTime"]
    (check_container if stream is STREAM else check_exec)(pods[0]["spec"])
    shop.assert_back()


def check_container(pod: dict[str, Any]) -> None:
    """Nothing of it reaches the API."""
    mover, writer = pod["containers"]
    secrets = [source["secretRef"]["name"] for source in (*mover["envFrom"], *writer["envFrom"])]
    assert secrets == ["repository", "db-dumper"]
    assert not any("serviceAccount" in str(volume) for volume in pod["volumes"])


def check_exec(pod: dict[str, Any]) -> None:
    """As the API server keeps it: one container has the token, the other the repository's Secret."""
    mover, writer = pod["containers"]
    (token,) = [volume["name"] for volume in pod["volumes"] if "serviceAccountToken" in str(volume)]
    assert [token in str(each["volumeMounts"]) for each in (mover, writer)] == [False, True]
    assert ("repository" in str(mover["envFrom"]), "envFrom" in writer) == (True, False)
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("default", False)
    assert "--selector=app=db" in writer["args"]
    assert writer["args"][writer["args"].index("--") + 1 :] == ["pg_dump", "$$(USER)", "shop"]


@pytest.mark.parametrize(
    ("stream", "value"), [(STREAM, "streams.allow"), (FROM_POD, "exec.namespaces")], ids=["container", "exec"]
)
def test_a_command_that_fails_stops_nothing_and_is_quoted_and_none_runs_that_is_not_allowed(
    shop: World, stream: dict[str, Any], value: str
) -> None:
    refused = replace(
        failure("backup", "StreamFailed", "the command failed with code 1"), said="pg_dump: no such host\n"
    )
    shop.movers.script = lambda words, before: refused if is_stream(words) else None
    shop.operator.start()
    shop.policy(streams=[stream])
    before = shop.pods()
    shop.snapshot()
    ready = shop.await_end(kinds.SNAPSHOT, "first")
    assert ready["reason"] == "StreamFailed"
    assert "pg_dump: no such host" in ready["message"]
    assert shop.pods() == before
    status = shop.status(kinds.SNAPSHOT, "first")
    assert ("quiesce" in status, "verdictSnapshotId" in status) == (False, False)
    assert [job["attempt"] for job in status["jobs"] if job["purpose"] == "stream"] == [1, 2]

    shop.operator.stop()
    shop.operator = operator(shop)
    shop.operator.start()
    ran = len(shop.movers.commands)
    shop.snapshot("second")
    ready = shop.await_end(kinds.SNAPSHOT, "second")
    assert ready["reason"] == "StreamsNotAllowed"
    assert value in ready["message"]
    wait_for(
        "the policy is not Ready",
        lambda: shop.condition(kinds.BACKUP_POLICY, "nightly").get("reason") == "StreamsNotAllowed",
        within=PATIENCE,
        seen=shop.operator.tail,
    )
    policy = shop.condition(kinds.BACKUP_POLICY, "nightly")
    assert policy["status"] == "False"
    assert value in policy["message"]
    assert len(shop.movers.commands) == ran
    assert shop.pods() == before
