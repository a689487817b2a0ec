"""Block devices: saved as one file that restic reads too, and written over so that nothing old is left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.host import find
from tests.conformance.actors import Lowtide, Restic
from tests.loops import content, loop_device

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("root_only")]

MIB = 1 << 20
SIZE = 24 * MIB + 512
"""No multiple of a page, and more than a few chunks."""
OLD = os.urandom(4096)

DATA = bytearray(SIZE)
DATA[:1024] = os.urandom(1024)
DATA[3 * MIB + 7 : 5 * MIB + 9] = os.urandom(2 * MIB + 2)
DATA[-700:] = os.urandom(700)
"""A little data, long runs of zeros, and an end that is not zero."""

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a device that holds `data`, or old data."""
    with ExitStack() as devices:
        numbers = iter(range(100))

        def device(size: int = SIZE, data: bytes = b"") -> Path:
            old = b"" if data else OLD
            made = devices.enter_context(loop_device(tmp_path / f"disk-{next(numbers)}", size, old=old))
            made.write_bytes(data)
            return made

        yield device


@pytest.fixture
def saved(lowtide: Lowtide, make: Make) -> Lowtide:
    """A repository with a snapshot of a device, as the file /volumes/data.img."""
    lowtide.run("init")
    lowtide.run("backup", "--read-device", make(data=bytes(DATA)), "--stdin-filename", "/volumes/data.img")
    return lowtide


def why(lowtide: Lowtide) -> str:
    assert lowtide.result is not None
    return lowtide.result.reason


def test_restic_reads_a_device_as_a_plain_file(saved: Lowtide, restic: Restic) -> None:
    command = [*restic.command, "dump", "latest", "/volumes/data.img"]
    dumped = subprocess.run(command, env=restic.variables(), capture_output=True, check=True, timeout=120)
    assert dumped.stdout == DATA
    (snapshot,) = restic.snapshots()
    assert snapshot["paths"] == ["/volumes/data.img"]
    restic.run("check", "--read-data")


def test_runs_of_zeros_take_no_room_and_what_is_known_is_not_stored_again(saved: Lowtide, make: Make) -> None:
    assert saved.result is not None
    assert (saved.result.files, saved.result.bytes) == (1, SIZE)
    assert saved.result.added_bytes < 5 * MIB
    changed = bytes(DATA[:-512]) + os.urandom(512)
    device = make(data=changed)
    added = saved.backup("--read-device", device, "--stdin-filename", "/volumes/data.img")["data_added"]
    assert added < 3 * MIB


def test_the_devices_own_path_is_its_name_where_none_is_given_and_links_to_it_are_followed(
    lowtide: Lowtide, make: Make, tmp_path: Path
) -> None:
    lowtide.run("init")
    link = tmp_path / "mapped"
    link.symlink_to(make(MIB))
    lowtide.run("backup", "--read-device", link)
    assert lowtide.snapshots()[0]["paths"] == [str(link)]


@pytest.mark.parametrize("old", [False, True], ids=["onto a blank device", "onto a device full of old data"])
def test_a_device_becomes_what_it_was(saved: Lowtide, make: Make, old: bool) -> None:
    target = make(data=b"" if old else bytes(SIZE))
    saved.run("restore", "latest:/volumes/data.img", "--write-device", target, "--verify")
    assert content(target) == DATA
    assert saved.result is not None
    assert (saved.result.files, saved.result.bytes <= SIZE) == (1, True)


def test_what_is_there_already_is_not_written_again(saved: Lowtide, make: Make) -> None:
    target = make(data=bytes(DATA[:-512]) + bytes(512))
    ran = saved.run("restore", "latest:/volumes/data.img", "--write-device", target, "--json")
    assert ran.summary()["bytes_restored"] < 9 * MIB
    assert content(target) == DATA


def test_a_larger_device_keeps_what_lies_behind_unless_the_snapshot_is_all_that_it_shall_hold(
    saved: Lowtide, make: Make
) -> None:
    kept, cleaned = make(SIZE + MIB), make(SIZE + MIB)
    before = content(kept)[SIZE:]
    assert any(before)
    saved.run("restore", "latest:/volumes/data.img", "--write-device", kept, "--verify")
    assert content(kept) == DATA + before
    arguments = ("--write-device", cleaned, "--verify", "--delete", "--allow-partial")
    saved.run("restore", "latest:/volumes/data.img", *arguments)
    assert content(cleaned) == DATA + bytes(MIB)


def test_a_device_that_is_too_small_is_not_touched(saved: Lowtide, make: Make) -> None:
    target = make(SIZE - 512)
    before = content(target)
    ran = saved.run("restore", "latest:/volumes/data.img", "--write-device", target, code=1)
    assert why(saved) == "DeviceTooSmall"
    assert f"has {SIZE - 512} bytes" in ran.err
    assert content(target) == before


def test_a_device_that_is_in_use_is_not_touched(saved: Lowtide, make: Make, tmp_path: Path) -> None:
    if find("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4")
    target, point = make(), tmp_path / "point"
    point.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", target], check=True)
    subprocess.run(["mount", target, point], check=True)
    try:
        saved.run("restore", "latest:/volumes/data.img", "--write-device", target, code=1)
    finally:
        subprocess.run(["umount", point], check=True)
    assert why(saved) == "DeviceRefused"
    subprocess.run(["fsck.ext4", "-f", "-n", target], check=True, capture_output=True)


def test_a_dry_run_writes_nothing(saved: Lowtide, make: Make) -> None:
    target = make()
    before = content(target)
    saved.run("restore", "latest:/volumes/data.img", "--write-device", target, "--dry-run")
    assert content(target) == before


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("latest:/volumes/data.img", "NoDevice"),
        ("latest:/volumes", "PathMissing"),
        ("latest", "PathMissing"),
        ("latest:/volumes/other.img", "PathMissing"),
    ],
)
def test_what_is_no_device_or_no_file_of_the_snapshot_is_refused(
    saved: Lowtide, tmp_path: Path, what: str, reason: str
) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"precious")
    saved.run("restore", what, "--write-device", plain, code=1)
    assert why(saved) == reason
    assert plain.read_bytes() == b"precious"


def test_only_a_device_is_read_as_one(lowtide: Lowtide, tmp_path: Path) -> None:
    lowtide.run("init")
    for place in (tmp_path, Path("/dev/null"), tmp_path / "missing"):
        lowtide.run("backup", "--read-device", place, code=1)
        assert why(lowtide) == "NoDevice"
    assert lowtide.snapshots() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup", "--read-device", "/dev/loop0", "/etc"),
        ("backup", "--read-device", "/dev/loop0", "--stdin"),
        ("restore", "latest:/x", "--write-device", "/dev/loop0", "--target", "/tmp/x"),
        ("restore", "latest:/x", "--write-device", "/dev/loop0", "--include", "x"),
        ("restore", "latest:/x", "--write-device", "/dev/loop0", "--overwrite", "never"),
        ("restore", "latest:/x"),
    ],
    ids=" ".join,
)
def test_what_can_not_be_meant_together_is_refused(lowtide: Lowtide, arguments: tuple[str, ...]) -> None:
    lowtide.run(*arguments, code=1)
    assert why(lowtide) == "BadArguments"
