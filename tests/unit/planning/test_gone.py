"""What tells that volumes are unmounted."""

from dataclasses import replace
from datetime import timedelta

import pytest

from lowtide_operator.planning.gone import came_back, in_the_way
from lowtide_operator.planning.observed import Attachment, Node
from lowtide_operator.planning.observed_pods import Container
from tests.property.planning_world import START, Cluster

CLAIMS = frozenset({"data"})
LATER = START + timedelta(minutes=10)


def ended(ago: float) -> tuple[Container, ...]:
    return (Container("main", terminated="Completed", finished=LATER - timedelta(seconds=ago)),)


@pytest.mark.parametrize(
    ("pod", "node_ready", "gone"),
    [
        pytest.param({}, True, False, id="a running pod mounts it"),
        pytest.param(
            {"phase": "Pending", "node": ""}, True, False, id="a pod that is not scheduled yet may any moment"
        ),
        pytest.param({"phase": "Succeeded", "containers": ended(61)}, True, True, id="finished over a minute ago"),
        pytest.param({"phase": "Failed", "containers": ended(60)}, True, False, id="finished, but not long enough ago"),
        pytest.param({"phase": "Failed", "containers": ended(900)}, False, False, id="finished on a node that is lost"),
        pytest.param({"phase": "Failed"}, True, False, id="finished at a time that nobody knows"),
        pytest.param({"phase": "Failed", "node": ""}, True, True, id="failed without ever being on a node"),
    ],
)
def test_a_pod_and_its_mount(pod, node_ready: bool, gone: bool):
    world = Cluster()
    world.add_claim("data")
    world.nodes["node-a"] = Node("node-a", node_ready)
    world.add_pod("app", "data", **pod)
    assert in_the_way(CLAIMS, world.world(), LATER) == (() if gone else ("pod app",))


@pytest.mark.parametrize(
    ("attach", "way"),
    [
        pytest.param(True, ("the attachment of data to node node-b",), id="the attachment tells of a forced deletion"),
        pytest.param(False, (), id="without attaching there is nothing more to see"),
    ],
)
def test_an_attachment_without_a_pod(attach: bool, way):
    world = Cluster()
    world.add_claim("data", attach=attach)
    world.attachments.add(Attachment("pv-data", "node-b"))
    world.attachments.add(Attachment("pv-other", "node-b"))
    assert in_the_way(CLAIMS, world.world(), LATER) == way


def test_a_pod_that_is_being_deleted_still_mounts():
    world = Cluster()
    world.add_claim("data")
    world.delete_pod(world.add_pod("app", "data"))
    assert in_the_way(CLAIMS, world.world(), LATER) == ("pod app",)


def test_other_claims_do_not_matter():
    world = Cluster()
    world.add_claim("other")
    world.add_pod("app", "other")
    assert in_the_way(CLAIMS, world.world(), LATER) == ()


@pytest.mark.parametrize(
    ("pod", "back"),
    [
        pytest.param({}, True, id="one that runs"),
        pytest.param({"phase": "Succeeded", "containers": ended(30)}, True, id="one that ran and ended meanwhile"),
        pytest.param({"phase": "Succeeded", "containers": ended(300)}, False, id="one that had ended before"),
        pytest.param({"phase": "Failed"}, True, id="one that ended nobody knows when"),
    ],
)
def test_a_pod_that_came_back(pod, back: bool):
    world = Cluster()
    world.add_claim("data")
    world.add_pod("app", "data", **pod)
    since = LATER - timedelta(seconds=100)
    assert came_back(CLAIMS, world.world(), since, LATER) == (("pod app",) if back else ())


def test_a_job_that_started_meanwhile_came_back_even_if_its_pod_is_gone():
    world = Cluster()
    since = LATER - timedelta(seconds=100)
    job = world.add_workload("Job", "import", "data", finished=True)
    world.workloads[job.meta.uid] = replace(job, started=LATER)
    assert came_back(CLAIMS, world.world(), since, LATER) == ("Job import",)
