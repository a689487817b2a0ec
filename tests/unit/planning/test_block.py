"""Block volumes: one file of the snapshot each, from a device and onto a device, by every method."""

from dataclasses import replace
from typing import Any

import pytest

from lowtide_operator.api.snapshot import VolumeMode
from lowtide_operator.planning.actions import CreateCopy, MoverJob, Purpose
from tests.property.planning_world import Cluster, reasons
from tests.unit.planning import restores
from tests.unit.planning.runs import RUN, cluster, outcome, status, until

BYTES = (1 << 30) + 4096
"""What was backed up is a little larger than its claim says."""


def block_cluster(**policy: Any) -> Cluster:
    world = cluster(snapshot=False, **policy)
    world.claims["data"] = replace(world.claims["data"], volume_mode="Block")
    world.add_snapshot()
    return world


def backed_up() -> Cluster:
    """A device and a file system that were backed up."""
    world = block_cluster()
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    found = world.snapshots["one"]
    volumes = tuple(v.model_copy(update={"bytes": BYTES}) for v in found.status.volumes)
    world.snapshots["one"] = replace(found, status=found.status.model_copy(update={"volumes": volumes}))
    return world


def jobs(world: Cluster, purpose: Purpose) -> dict[str, MoverJob]:
    return {mover.job.claim: mover.job for mover in world.movers.values() if mover.job.purpose is purpose}


@pytest.mark.parametrize("method", ["Direct", "Snapshot", "Clone"])
def test_a_device_is_read_as_one_beside_volumes_with_files(method: str):
    world = block_cluster(capture={"method": method})
    until(world, lambda w: len(jobs(w, Purpose.BACKUP)) == 2)
    assert {claim: job.block for claim, job in jobs(world, Purpose.BACKUP).items()} == {"data": True, "files": False}
    copies = {copy.claim: copy.block for copy in world.copied.values() if isinstance(copy, CreateCopy)}
    assert copies == ({} if method == "Direct" else {"data": True, "files": False})
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")


def test_what_a_volume_was_when_the_run_started_counts():
    world = block_cluster()
    until(world, lambda w: status(w).resolved is not None)
    world.claims["data"] = replace(world.claims["data"], volume_mode="Filesystem")
    until(world, lambda w: "data" in jobs(w, Purpose.BACKUP))
    assert jobs(world, Purpose.BACKUP)["data"].block


def test_a_device_is_written_in_place_after_what_it_holds_was_saved():
    world = backed_up()
    world.contents["data"] = "lost"
    world.add_restore(volumes=[{"claim": "data"}])
    restores.until(world, lambda w: "data" in jobs(w, Purpose.RESTORE))
    writing = jobs(world, Purpose.RESTORE)["data"]
    assert (writing.block, writing.path, writing.writes) == (True, "/volumes/data.img", True)
    world.run(restores.RUN)
    assert restores.outcome(world) == ("True", "Restored")
    assert restores.made(world, Purpose.BACKUP) == [("data", "safety")]
    assert world.contents["data"] == "data of data"


def test_the_way_back_leads_over_the_device_too():
    world = backed_up()
    restores.in_place(world, volumes=[{"claim": "data"}])
    world.fate = restores.first_restore_fails
    restores.until(world, lambda w: any(r.role == "back" for r in restores.status(w).jobs))
    (back,) = [r.name for r in restores.status(world).jobs if r.role == "back"]
    (job,) = [m.job for m in world.movers.values() if m.job.name == back]
    assert (job.block, job.path) == (True, "/volumes/data.img")


@pytest.mark.parametrize(
    ("new", "gone", "size"),
    [
        pytest.param({}, False, str(BYTES), id="at least what the device had"),
        pytest.param({}, True, str(BYTES), id="also where the claim is gone"),
        pytest.param({"size": "2Gi"}, False, "2Gi", id="or what is said"),
    ],
)
def test_a_new_claim_for_a_device_is_a_device_that_is_large_enough(new: dict[str, str], gone: bool, size: str):
    world = backed_up()
    if gone:
        del world.claims["data"]
    world.add_restore(volumes=[{"claim": "data", "newClaim": {"name": "copy", **new}}])
    restores.until(world, lambda w: "copy" in jobs(w, Purpose.RESTORE))
    assert (world.claims["copy"].volume_mode, world.claims["copy"].size) == ("Block", size)
    writing = jobs(world, Purpose.RESTORE)["copy"]
    assert (writing.block, writing.path) == (True, "/volumes/data.img")
    world.run(restores.RUN)
    assert restores.outcome(world) == ("True", "Restored")


@pytest.mark.parametrize(
    ("spec", "mode", "reason"),
    [
        pytest.param(
            {"volumes": [{"claim": "data", "newClaim": {"name": "copy", "size": "1Gi"}}]},
            "Block",
            "SizeTooSmall",
            id="a new claim that is too small",
        ),
        pytest.param({"volumes": [{"claim": "data"}]}, "Filesystem", "VolumeModeDiffers", id="a device onto files"),
        pytest.param(
            {"volumes": [{"claim": "files", "newClaim": {"name": "copy", "volumeMode": "Block"}}]},
            "Block",
            "VolumeModeDiffers",
            id="files onto a device",
        ),
        pytest.param(
            {"volumes": [{"claim": "data"}], "include": ["/etc"]}, "Block", "PatternsOnBlockVolume", id="a part of it"
        ),
    ],
)
def test_what_can_not_be_written_fails_the_restore_before_anything_is_stopped(
    spec: dict[str, Any], mode: str, reason: str
):
    world = backed_up()
    world.claims["data"] = replace(world.claims["data"], volume_mode=mode)
    created = world.log.count("CreateJob")
    world.add_restore(**spec)
    for _ in range(3):
        world.reconcile(*restores.RUN)
    assert restores.outcome(world) == ("False", reason)
    assert world.log.count("CreateJob") == created
    assert restores.message(world).endswith(".")


@pytest.mark.parametrize(
    ("spec", "block"),
    [
        pytest.param(
            {"claim": "files", "path": "/volumes/files/vm.img", "newClaim": {"name": "copy", "volumeMode": "Block"}},
            True,
            id="an image among the files",
        ),
        pytest.param(
            {"claim": "data", "path": "/volumes", "newClaim": {"name": "copy", "volumeMode": "Filesystem"}},
            False,
            id="a device as a file",
        ),
    ],
)
def test_a_path_says_what_is_meant_where_modes_differ(spec: dict[str, Any], block: bool):
    world = backed_up()
    world.add_restore(volumes=[spec])
    restores.until(world, lambda w: "copy" in jobs(w, Purpose.RESTORE))
    writing = jobs(world, Purpose.RESTORE)["copy"]
    assert (writing.block, writing.path) == (block, spec["path"])
    assert reasons(restores.status(world).conditions)["Ready"][1] == "Restoring"
    assert restores.status(world).resolved.volumes[0].volume_mode is (  # type: ignore[union-attr]
        VolumeMode.BLOCK if block else VolumeMode.FILESYSTEM
    )
