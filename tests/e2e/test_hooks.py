"""Hooks on a real Kubernetes: real commands in real containers, whose order the data shows."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.cluster.clusters import Cluster
from tests.cluster.waiting import wait_for
from tests.demo.install import install
from tests.demo.one_volume import CLAIM, SECRET, STARTS, OneVolume
from tests.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.oracle, pytest.mark.s3]

PASSWORD = "a password for the tests"
WEB = {"workload": {"kind": "Deployment", "name": "web"}}


@pytest.fixture
def app(cluster: Cluster, namespace: str, s3: S3Server) -> OneVolume:
    """One pod with a volume, in a namespace where commands may be executed."""
    install(cluster, values={"exec.namespaces": f"{{{namespace}}}"})
    app = OneVolume(cluster, namespace)
    app.set_up(storage_class=cluster.storage_class)
    app.repository(s3.repository(namespace), PASSWORD, s3.environment)
    return app


def policy(app: OneVolume, method: str, **hooks: Any) -> None:
    spec = {"repository": {"secretName": SECRET}, "volumes": {"claims": [CLAIM]}, "capture": {"method": method}}
    app.ours("BackupPolicy", "hooked", {**spec, "hooks": hooks})


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {**WEB, "command": ["sh", "-ec", script], **more}


def test_what_a_hook_before_writes_is_in_the_backup_and_what_one_after_writes_is_not(
    snapshots: str, app: OneVolume, s3: S3Server, tmp_path: Path
) -> None:
    policy(
        app,
        "Snapshot",
        before=[shell("test ! -e /data/after; echo $$ '$(HOME)' > /data/before; echo noise; echo more noise >&2")],
        after=[shell("test -e /data/before; echo after > /data/after")],
    )
    status = app.snapshot("first", "hooked")
    assert [(hook["name"], hook["outcome"]) for hook in status["hooks"]] == [
        ("before-1", "Succeeded"),
        ("after-1", "Succeeded"),
    ]
    assert "noise" not in str(status["hooks"]), "what a command that went well says is not quoted"
    environment = {
        **os.environ,
        **s3.environment,
        "RESTIC_REPOSITORY": s3.repository(app.namespace),
        "RESTIC_PASSWORD": PASSWORD,
    }
    (volume,) = status["volumes"]
    restore = [programs.program("restic"), "--no-cache", "restore", volume["snapshotId"], "--target", str(tmp_path)]
    subprocess.run(restore, env=environment, check=True, capture_output=True)
    folder = tmp_path / "volumes" / CLAIM
    assert (folder / "before").read_text().endswith(" $(HOME)\n"), "Kubernetes expanded nothing"
    assert not (folder / "after").exists()
    assert (folder / "starts").read_text().splitlines() == ["started"]
    # Afterwards, in the pod that was started again.
    app.ready()
    assert app.shell("cat /data/after") == "after\n"
    assert app.shell(f"cat {STARTS}").splitlines() == ["started"] * 2
    wait_for("no Job is left", lambda: app.run("get", "jobs", "-o", "name") == "", within=60)


def test_each_way_to_fail_is_told_and_a_run_whose_hook_fails_stops_nothing(app: OneVolume) -> None:
    goes_on = {"onError": "Continue"}
    nobody = {"podSelector": {"matchLabels": {"app": "nobody"}}, "command": ["true"], "timeout": "2s", **goes_on}
    policy(
        app,
        "Direct",
        before=[
            {**WEB, "command": ["no-such-program"], **goes_on},
            shell("echo waits >&2; sleep 60", timeout="6s", **goes_on),
            nobody,
            shell("echo secret; echo 'FATAL: no such role' >&2; exit 3"),
            shell("touch /data/never"),
        ],
        after=[shell("touch /data/undone")],
    )
    app.ours("Snapshot", "first", {"policyName": "hooked"})

    def ended() -> Any:
        status = app.cluster.kubectl.get("-n", app.namespace, "snapshots.lowtide.dev", "first").get("status", {})
        return status if status.get("endTime") else None

    status = wait_for("the Snapshot has ended", ended, within=300)
    told = {hook["name"]: (hook.get("reason", ""), hook.get("message", "")) for hook in status["hooks"]}
    assert [reason for reason, _ in told.values()] == [
        "ExecRefused",
        "TimedOut",
        "PodMissing",
        "CommandFailed",
        "",
        "Done",
    ], told
    assert "no-such-program" in told["before-1"][1]
    assert "still be running" in told["before-2"][1]
    assert told["before-2"][1].endswith("waits")
    assert "app=nobody" in told["before-3"][1]
    assert "exit code 3" in told["before-4"][1]
    assert told["before-4"][1].endswith("FATAL: no such role")
    assert "secret" not in str(status["hooks"])
    assert status["failure"]["reason"] == "HookFailed"
    assert "quiesce" not in status, "nothing was stopped"
    assert app.shell(f"test -e /data/undone; test ! -e /data/never; cat {STARTS}").split() == ["started"]
