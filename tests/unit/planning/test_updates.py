"""When a Deployment would come back as another than it was: Kubernetes chooses which ReplicaSet is scaled up again."""

from typing import Any

import pytest

from lowtide_operator.planning.observed import Owner
from lowtide_operator.planning.updates import is_half_updated
from tests.property.planning_world import Cluster


def template(version: int) -> dict[str, Any]:
    return {"metadata": {"annotations": {"version": str(version)}}}


@pytest.mark.parametrize(
    ("replicas", "kept", "wanted", "sets", "half"),
    [
        pytest.param(3, "", 1, [(1, 3)], False, id="one revision"),
        pytest.param(3, "", 2, [(1, 0), (2, 3)], False, id="an old one has no pods"),
        pytest.param(3, "", 2, [(1, 2), (2, 2)], True, id="in the middle of a rollout"),
        pytest.param(3, "", 2, [(1, 3)], True, id="a rollout that was asked for and has not begun"),
        pytest.param(3, "", 1, [(1, 3), (2, 0)], False, id="after an undo the older one is the newest"),
        pytest.param(3, "paused", 2, [(1, 3), (2, 1)], True, id="paused half-way"),
        pytest.param(3, "paused", 2, [(1, 3)], False, id="paused before: the old one comes back"),
        pytest.param(
            3, "paused", 3, [(1, 3), (2, 0)], True, id="paused before, after an undo: the abandoned one would"
        ),
        pytest.param(
            3, "paused", 2, [(2, 0), (1, 3)], True, id="paused before going back to what is there: that would"
        ),
        pytest.param(3, "paused", 3, [(1, 2), (2, 1)], True, id="paused half-way, and changed again"),
        pytest.param(0, "", 2, [(1, 3)], False, id="at 0, it stays there"),
    ],
)
def test_a_deployment(replicas: int, kept: str, wanted: int, sets: list[tuple[int, int]], half: bool):
    world = Cluster()
    more = {"template": template(wanted), "update_kept_by": kept}
    web = world.add_workload("Deployment", "web", "data", replicas=replicas, **more)
    owner = Owner(web.api_version, web.kind, web.meta.name, web.meta.uid, True)
    world.add_workload("ReplicaSet", "other", "data", template=template(9))
    for version, count in sets:
        world.pass_time(1)
        name = f"web-{version}"
        world.add_workload("ReplicaSet", name, "data", replicas=count, owners=(owner,), template=template(version))
    assert is_half_updated(web, world.world()) is half
