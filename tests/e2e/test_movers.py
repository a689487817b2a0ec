"""Movers on a real Kubernetes: seen while they run, given up when they stand still or can't start, with their words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.clusters import Cluster
from tests.cluster.waiting import wait_for
from tests.demo.install import install
from tests.demo.one_volume import CLAIM, SECRET, STARTS, Object, OneVolume, ready
from tests.s3 import S3Server, s3_server

pytestmark = [pytest.mark.cluster, pytest.mark.s3]

PASSWORD = "a password for the tests"
SIZE = 1_500_000
SLOWLY = {"limitUpload": 32}
"""In KiB/s: what is on the volume takes 45 seconds, as one pack."""
NO_IMAGE = "registry.invalid/nothing:1"
LABEL = "lowtide.test/movers"


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    """Lowtide on the cluster, for all namespaces, which may run the images of streams."""
    install(cluster, values={"streams.allow": "true"})
    return cluster


@pytest.fixture
def storage(cluster: Cluster) -> Iterator[S3Server]:
    """An S3 server that the test may kill."""
    with s3_server(address=cluster.address) as server:
        yield server


@pytest.fixture
def app(installed: Cluster, namespace: str, storage: S3Server) -> OneVolume:
    """A pod with a file of random bytes on its volume; it takes a while to go."""
    app = OneVolume(installed, namespace)
    app.set_up(storage_class=installed.storage_class, size="64Mi", grace=6)
    app.repository(storage.repository(namespace), PASSWORD, storage.environment)
    app.shell(f"head -c {SIZE} /dev/urandom > /data/random")
    return app


def once(**deadlines: str) -> Object:
    """A mover that is not tried again."""
    return {"retry": {"limit": 0}, "deadlines": deadlines}


def uploading(app: OneVolume, name: str) -> Object:
    """The volume's status, once all of it has been read and its mover is known to go on."""

    def told() -> Object | None:
        volumes = app.status("snapshots", name).get("volumes") or [{}]
        progress: Object = volumes[0].get("progress") or {}
        return volumes[0] if (progress.get("bytes") or 0) >= SIZE else None

    return wait_for(f"the status of {name} says that all was read", told, within=120, every=0.3)


def told_in_events(app: OneVolume, name: str, reason: str) -> str:
    """The newest Event of that reason about a Snapshot."""
    fields = f"involvedObject.kind=Snapshot,involvedObject.name={name},reason={reason}"
    events = app.cluster.kubectl.get("-n", app.namespace, "events", "--field-selector", fields)["items"]
    assert events, f"no event {reason} about {name}"
    message: str = events[-1]["message"]
    return message


def failed(app: OneVolume, name: str) -> dict[str, str]:
    """Why a Snapshot failed; its workload runs again, and no mover is left."""
    told = ready(app.ended("snapshots", name))
    assert told["status"] == "False", told
    app.ready()
    deployment = app.cluster.kubectl.get("-n", app.namespace, "deployment", "web")
    assert deployment["spec"]["replicas"] == 1
    wait_for("no Job is left", lambda: not app.run("get", "jobs", "-o", "name").split(), within=60)
    return told


def starts(app: OneVolume) -> int:
    return len(app.shell(f"cat {STARTS}").splitlines())


def test_a_slow_upload_is_followed_in_the_status_and_not_given_up(app: OneVolume) -> None:
    """One pack takes three times as long as a mover may show no progress."""
    app.policy("slow", method="Direct", repository=SLOWLY, mover=once(noProgress="15s"))
    app.ours("Snapshot", "slow", {"policyName": "slow"})
    volume = uploading(app, "slow")
    assert volume["progress"]["files"] == 2
    assert volume["progress"]["updatedAt"]
    assert "endTime" not in app.status("snapshots", "slow")

    status = app.succeeded("snapshots", "slow")
    (volume,) = status["volumes"]
    assert "progress" not in volume, "it is of a mover that runs"
    assert volume["seconds"] >= 40, "it was to be slow"


def test_a_mover_that_stands_still_is_given_up_and_its_last_words_are_told(app: OneVolume, storage: S3Server) -> None:
    app.policy("slow", method="Direct", repository=SLOWLY, mover=once(noProgress="15s"))
    app.ours("Snapshot", "still", {"policyName": "slow"})
    uploading(app, "still")
    storage.kill()
    told = failed(app, "still")
    assert told["reason"] == "NoProgress", told
    for text in (told["message"], told_in_events(app, "still", "NoProgress")):
        assert "reported no progress for 15 s" in text
        assert "trying again" in text, "what the mover said last"
    assert starts(app) == 2


def test_a_mover_that_moves_for_too_long_is_given_up(app: OneVolume) -> None:
    app.policy("slow", method="Direct", repository={"limitUpload": 8}, mover=once(start="40s", whole="40s"))
    app.ours("Snapshot", "long", {"policyName": "slow"})
    told = failed(app, "long")
    assert told["reason"] == "TooLong", told
    assert "mover.deadlines.whole" in told_in_events(app, "long", "TooLong")
    assert starts(app) == 2


def test_a_mover_that_no_node_takes_can_not_start_and_what_was_stopped_runs_again(app: OneVolume) -> None:
    """The node is right for the preflight; while pods go it is no longer."""
    (node, *_) = app.cluster.kubectl("get", "nodes", "-o", "name").split()
    app.cluster.kubectl("label", node, f"{LABEL}=yes", "--overwrite")
    try:
        app.policy("picky", method="Direct", mover={**once(start="30s"), "nodeSelector": {LABEL: "yes"}})
        app.ours("Snapshot", "picky", {"policyName": "picky"})
        wait_for("the workload is stopped", lambda: count(app) == 0, within=120, every=0.2)
    finally:
        app.cluster.kubectl("label", node, f"{LABEL}-")
    told = failed(app, "picky")
    assert told["reason"] == "CannotStart", told
    assert "can't be scheduled" in told["message"]
    assert "node affinity/selector" in told_in_events(app, "picky", "CannotStart")
    assert starts(app) == 2


def test_a_mover_that_runs_out_of_memory_names_its_limit_and_nothing_was_stopped(app: OneVolume) -> None:
    """The repository's key alone takes 128 MiB to be derived."""
    app.policy("small", method="Direct", mover={**once(), "resources": {"limits": {"memory": "96Mi"}}})
    app.ours("Snapshot", "killed", {"policyName": "small"})
    told = failed(app, "killed")
    assert told["reason"] == "OutOfMemory", told
    assert "96Mi" in told["message"]
    assert starts(app) == 1


def test_an_image_that_can_not_be_pulled_is_named_and_nothing_was_stopped(app: OneVolume) -> None:
    stream = {"name": "dump", "container": {"image": NO_IMAGE, "command": ["true"]}}
    policy = {
        "repository": {"secretName": SECRET},
        "volumes": {"claims": [CLAIM]},
        "capture": {"method": "Direct"},
        "streams": [stream],
        "mover": once(start="30s"),
    }
    app.ours("BackupPolicy", "unpulled", policy)
    app.ours("Snapshot", "unpulled", {"policyName": "unpulled"})
    told = failed(app, "unpulled")
    assert told["reason"] == "CannotStart", told
    assert NO_IMAGE in told["message"]
    assert "Image" in told_in_events(app, "unpulled", "CannotStart")
    assert starts(app) == 1


def count(app: OneVolume) -> int:
    found: int = app.cluster.kubectl.get("-n", app.namespace, "deployment", "web")["spec"]["replicas"]
    return found
