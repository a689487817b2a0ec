"""What can't be read, or changes meanwhile: reported by name, exit code 3, and the snapshot says that it is partial."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.actors import Lowtide, Restic
from tests.conformance.rights import without_capabilities
from tests.conformance.trees import make_plain_tree

pytestmark = pytest.mark.oracle
NOBODY = 65534


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_plain_tree(tmp_path / "source")
    return tmp_path / "source"


def test_a_file_that_cannot_be_read_makes_the_snapshot_partial(
    lowtide: Lowtide, restic: Restic, source: Path, tmp_path: Path
) -> None:
    """A file whose reading fails: for root too, on a descriptor that the kernel refuses to read. A restore says it."""
    lowtide.run("init")
    unreadable = Path("/proc/self/mem")
    if not unreadable.exists():
        pytest.skip("no /proc/self/mem here, whose reading fails")

    ran = lowtide.run("backup", "--json", source, unreadable, code=3)

    assert "/proc/self/mem" in ran.err
    (snapshot,) = restic.snapshots()
    assert "lowtide:partial" in snapshot["tags"]
    assert lowtide.result is not None
    assert (lowtide.result.reason, lowtide.result.errors) == ("SourceIncomplete", 1)
    assert any("/proc/self/mem" in warning for warning in lowtide.result.warnings)
    assert lowtide.result.snapshot_ids == [snapshot["id"]]
    restic.run("check", "--read-data")
    lowtide.run("restore", "latest", "--target", tmp_path / "target")
    assert lowtide.result.outcome == "ok"
    assert any("is partial" in warning for warning in lowtide.result.warnings)


def test_a_folder_that_may_not_be_listed_is_no_wrong_argument(lowtide: Lowtide, restic: Restic, source: Path) -> None:
    """As the root of a volume of somebody else, for a mover without capabilities."""
    lowtide.run("init")
    source.chmod(0o711)
    if os.geteuid() == 0:
        os.chown(source, NOBODY, NOBODY)
    else:
        source.chmod(0)

    ran = lowtide.run("backup", "--json", "--refuse-empty", source, code=1, limit=without_capabilities)
    assert lowtide.result is not None
    assert lowtide.result.reason == "SourceEmpty"
    assert f"no file that could be read in {source}" in lowtide.result.message
    assert "ermission denied" in ran.err
    assert restic.snapshots() == []

    lowtide.run("backup", "--json", source, code=3, limit=without_capabilities)
    assert (lowtide.result.reason, lowtide.result.errors) == ("SourceIncomplete", 1)


def test_permission_denied_is_reported_file_by_file(lowtide: Lowtide, restic: Restic, source: Path) -> None:
    """Of files that not even root may read: it has no capability, and they are someone else's."""
    lowtide.run("init")
    denied = {source / "large", source / "folder 1"}
    for path in denied:
        path.chmod(0)
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)

    ran = lowtide.run("backup", "--json", source, code=3, limit=without_capabilities)

    assert {json.loads(line)["item"] for line in ran.err.splitlines() if '"error"' in line} == set(map(str, denied))
    assert lowtide.result is not None
    assert (lowtide.result.reason, lowtide.result.errors) == ("SourceIncomplete", 2)
    listed = restic.run("ls", "latest").out
    assert "folder 2" in listed
    assert f"{source}/large" not in listed


def test_a_missing_source_is_named_and_the_rest_is_stored(lowtide: Lowtide, restic: Restic, source: Path) -> None:
    lowtide.run("init")

    ran = lowtide.run("backup", source, source / "nothing here", code=3)

    assert "nothing here" in ran.err
    assert len(restic.snapshots()) == 1


def test_no_source_at_all_is_a_failure_without_a_snapshot(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    lowtide.run("init")

    lowtide.run("backup", tmp_path / "nothing", code=1)

    assert lowtide.result is not None
    assert lowtide.result.reason == "SourceMissing"
    assert restic.snapshots() == []


def test_an_empty_source_is_refused_where_asked(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    lowtide.run("init")
    (tmp_path / "volume" / "lost+found").mkdir(parents=True)

    lowtide.run("backup", "--refuse-empty", tmp_path / "volume", code=1)

    assert lowtide.result is not None
    assert lowtide.result.reason == "SourceEmpty"
    assert restic.snapshots() == []
    lowtide.run("backup", tmp_path / "volume")
    assert len(restic.snapshots()) == 1


def test_a_source_of_excluded_files_is_empty(lowtide: Lowtide, restic: Restic, source: Path) -> None:
    lowtide.run("init")

    lowtide.run("backup", "--refuse-empty", "--exclude", "*", source, code=1)

    assert restic.snapshots() == []


def test_files_that_come_go_and_grow_meanwhile_never_break_it(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    busy = tmp_path / "busy"
    busy.mkdir()
    script = (
        "import itertools, os, pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "for n in itertools.count():\n"
        "    (folder / f'f{n % 400}').write_bytes(os.urandom(n % 50_000))\n"
        "    (folder / f'f{(n + 200) % 400}').unlink(missing_ok=True)\n"
    )
    lowtide.run("init")
    process = subprocess.Popen([sys.executable, "-c", script, str(busy)])
    try:
        for _ in range(4):
            ran = lowtide.run("backup", "--json", busy, code=None)
            assert ran.code in (0, 3), ran.err
            assert "Traceback" not in ran.err
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    restic.run("check", "--read-data")
    lowtide.run("check", "--read-data")
