"""What a running mover tells of itself, and what it could not read: in the status, for people."""

from dataclasses import replace
from datetime import datetime, timedelta

from lowtide_engine.contract import Outcome, Result, encode
from lowtide_operator.api.snapshot import Progress, SnapshotStatus, VolumeStatus
from lowtide_operator.planning.actions import Purpose
from lowtide_operator.planning.observed_pods import Container, MoverProgress, Pod
from tests.property.planning_world import Cluster, Fate, reasons

RUN = ("snapshot", "one")


def reading(**mover: object) -> Cluster:
    """A run whose one mover is reading."""
    world = Cluster()
    world.add_claim("data")
    world.add_workload("StatefulSet", "db", "data")
    world.add_policy(volumes={"claims": ["data"]}, mover={"retry": {"limit": 0}, **mover})
    world.step()
    world.add_snapshot()
    world.fate = lambda job: Fate("hang") if job.purpose is Purpose.BACKUP else Fate()
    for _ in range(60):
        if movers(world):
            return world
        look(world, 2)
    raise AssertionError(f"no mover was started: {reasons(status(world).conditions)}")


def look(world: Cluster, seconds: float) -> None:
    world.pass_time(seconds)
    world.step()
    world.reconcile(*RUN)


def movers(world: Cluster) -> list[Pod]:
    backups = {uid for uid, mover in world.movers.items() if mover.job.purpose is Purpose.BACKUP}
    return [pod for uid, pod in world.pods.items() if uid in backups]


def tell(world: Cluster, progress: MoverProgress) -> None:
    (pod,) = movers(world)
    world.pods[pod.meta.uid] = replace(pod, progress=progress, meta=world.touched(pod.meta))


def status(world: Cluster) -> SnapshotStatus:
    return world.snapshots["one"].status


def volume(world: Cluster) -> VolumeStatus:
    (found,) = status(world).volumes
    return found


def whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def test_the_status_says_how_far_a_mover_is() -> None:
    world = reading()
    world.pass_time(20)
    tell(world, MoverProgress(world.now, files=3, bytes=512, total_bytes=2048, percent=25))
    told = world.now

    look(world, 1)

    assert volume(world).progress == Progress(files=3, bytes=512, total_bytes=2048, percent=25, updated_at=whole(told))
    assert (volume(world).outcome, volume(world).files, volume(world).snapshot_id) == (None, None, None)
    assert reasons(status(world).conditions)["Captured"] == ("False", "Reading")


def test_the_status_is_not_written_at_each_line_of_a_log() -> None:
    world = reading()
    world.pass_time(20)
    tell(world, MoverProgress(world.now, files=1, bytes=1))
    look(world, 1)
    version = world.snapshots["one"].meta.resource_version

    tell(world, MoverProgress(world.now, files=2, bytes=2))
    look(world, 1)
    assert (volume(world).progress or Progress()).files == 1
    assert world.snapshots["one"].meta.resource_version == version

    world.pass_time(20)
    tell(world, MoverProgress(world.now, files=9, bytes=9))
    look(world, 1)
    assert (volume(world).progress or Progress()).files == 9


def test_a_log_full_of_complaints_takes_no_numbers_away() -> None:
    world = reading()
    world.pass_time(20)
    tell(world, MoverProgress(world.now, files=7, bytes=70))
    look(world, 1)

    world.pass_time(20)
    tell(world, MoverProgress(world.now))
    look(world, 1)

    assert volume(world).progress == Progress(files=7, bytes=70, updated_at=whole(world.now - timedelta(seconds=1)))


def test_what_is_over_shows_no_progress() -> None:
    for end in ("ok", "failed", "oom"):
        world = reading()
        tell(world, MoverProgress(world.now, files=1, bytes=1))
        look(world, 1)
        assert volume(world).progress is not None

        world.fate = lambda job, end=end: Fate(end) if job.purpose is Purpose.BACKUP else Fate()  # type: ignore[misc]
        world.run(RUN)

        assert status(world).end_time is not None
        assert volume(world).progress is None, end


def test_a_mover_whose_log_stands_still_is_given_up_and_one_that_moves_is_not() -> None:
    world = reading(deadlines={"noProgress": "1m"})
    for number in range(20):
        tell(world, MoverProgress(world.now, files=number, bytes=0))
        look(world, 10)
        assert status(world).failure is None
    last = world.now

    for _ in range(20):
        look(world, 5)

    failure = status(world).failure
    assert failure is not None
    assert "no progress" in failure.message
    assert failure.time - last <= timedelta(seconds=70)


def test_a_mover_that_never_says_anything_is_given_up() -> None:
    world = reading(deadlines={"noProgress": "1m"})
    tell(world, MoverProgress(world.now))

    for _ in range(20):
        look(world, 5)

    failure = status(world).failure
    assert failure is not None
    assert failure.reason == "NoProgress"


def test_a_mover_that_waited_for_the_image_beside_it_has_all_of_its_time() -> None:
    world = reading(deadlines={"noProgress": "1m"})
    tell(world, MoverProgress(world.now))
    world.pass_time(50)
    (pod,) = movers(world)
    beside = Container("writer", started=world.now)
    world.pods[pod.meta.uid] = replace(pod, containers=(*pod.containers, beside), meta=world.touched(pod.meta))

    for _ in range(11):
        look(world, 5)
        assert status(world).failure is None
    for _ in range(6):
        look(world, 5)
    assert status(world).failure is not None


def test_a_log_that_can_not_be_read_is_no_reason_to_give_up() -> None:
    world = reading(deadlines={"noProgress": "1m"})
    (pod,) = movers(world)
    world.pods[pod.meta.uid] = replace(pod, progress=None)

    for _ in range(20):
        look(world, 10)

    assert status(world).failure is None


def test_what_a_mover_could_not_read_is_named_in_the_status() -> None:
    world = reading()
    (pod,) = movers(world)
    result = Result(
        "backup",
        Outcome.PARTIAL,
        "SourceIncomplete",
        "1 files or folders could not be read, and are not in the snapshot",
        repository_id=world.repository_id,
        snapshot_ids=["a" * 64],
        files=4,
        errors=1,
        warnings=["open /volumes/data/secret: permission denied"],
    )
    ended = Container("mover", terminated="Error", exit_code=3, message=encode(result).decode(), finished=world.now)
    world.pods[pod.meta.uid] = replace(pod, phase="Failed", containers=(ended,), meta=world.touched(pod.meta))

    look(world, 1)

    assert volume(world).warnings == ("open /volumes/data/secret: permission denied",)
    assert (volume(world).errors, volume(world).outcome) == (1, "Partial")
    failure = status(world).failure
    assert failure is not None
    assert failure.reason == "Partial"
    assert "mover.allowPartial" in failure.message


def test_a_mover_that_is_given_up_is_quoted_where_people_look() -> None:
    world = reading(deadlines={"noProgress": "1m"})
    told = MoverProgress(world.now, files=1, bytes=1, last_words="waiting for s3.example.com")
    tell(world, told)

    for _ in range(40):
        look(world, 5)

    failure = status(world).failure
    assert failure is not None
    assert failure.reason == "NoProgress"
    assert failure.message.endswith("The last that it said: waiting for s3.example.com")


def test_a_mover_that_takes_too_long_is_quoted_before_its_job_ends_it() -> None:
    world = reading(deadlines={"start": "1m", "whole": "2m"})
    jobs = {mover.job.name: mover.job for mover in world.movers.values() if mover.job.purpose is Purpose.BACKUP}
    assert [job.active_deadline for job in jobs.values()] == [180]
    for number in range(30):
        tell(world, MoverProgress(world.now, files=number, bytes=0, last_words="using parent snapshot"))
        look(world, 5)
        if status(world).failure is not None:
            break

    failure = status(world).failure
    assert failure is not None
    assert failure.reason == "TooLong"
    assert failure.message.endswith("(mover.deadlines.whole). The last that it said: using parent snapshot")
