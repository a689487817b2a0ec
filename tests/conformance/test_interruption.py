"""Stopped, killed, failed, put to sleep: nothing false is published, and the next run goes on from what is stored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lowtide_engine.contract import RESULT_FILE_VARIABLE, decode
from tests.conformance.actors import Lowtide, Restic
from tests.conformance.trees import describe, differences, make_plain_tree

pytestmark = pytest.mark.oracle
CHECKOUT = Path(__file__).resolve().parents[2]
SMALL_PACKS = ("--pack-size", "4")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_plain_tree(tmp_path / "source", large=60 * 1024 * 1024)
    return tmp_path / "source"


@pytest.fixture
def gated(lowtide: Lowtide, place: str, tmp_path: Path) -> Lowtide:
    """lowtide with a gate before its packs: see gated.py."""
    gate = tmp_path / "gate"
    gate.mkdir()
    environment = lowtide.environment | {"GATE_FOLDER": str(gate), "PYTHONPATH": str(CHECKOUT)}
    return Lowtide([sys.executable, "-m", "tests.conformance.gated"], place, environment)


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def at_the_gate(gated: Lowtide, source: Path, *, after: int) -> subprocess.Popen[bytes]:
    """Start a backup and wait until `after` packs are stored and the next waits at the gate."""
    gate = Path(gated.environment["GATE_FOLDER"])
    process = gated.start("backup", "--json", *SMALL_PACKS, source, extra={"GATE_AFTER": str(after)})
    until(lambda: (gate / "waiting").exists() or process.poll() is not None, "the gate")
    assert process.poll() is None, process.communicate()[1].decode()
    return process


def stored_packs(place: str) -> set[str]:
    return {path.name for path in (Path(place) / "data").glob("*/*") if len(path.name) == 64}


def indexed_packs(lowtide: Lowtide) -> set[str]:
    names = [path.name for path in (Path(lowtide.repository) / "index").iterdir()]
    indexes = [json.loads(lowtide.run("cat", "index", name).out) for name in names]
    return {pack["id"] for index in indexes for pack in index["packs"]}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_an_index_of_what_is_stored_and_no_lock(
    number: signal.Signals, gated: Lowtide, lowtide: Lowtide, restic: Restic, source: Path, place: str
) -> None:
    lowtide.run("init")
    process = at_the_gate(gated, source, after=6)
    until(lambda: len(stored_packs(place)) >= 6, "six packs")

    began = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=40)

    assert time.monotonic() - began < 20
    assert process.returncode == 130
    result = decode(Path(lowtide.environment[RESULT_FILE_VARIABLE]).read_bytes())
    assert (result.outcome, result.reason) == ("failed", "Interrupted")
    assert not list((Path(place) / "locks").iterdir())
    named = indexed_packs(lowtide)
    assert len(named) >= 6
    assert named <= stored_packs(place)
    assert restic.snapshots() == []
    restic.run("check", "--read-data")

    before = sum((Path(place) / "data" / pack[:2] / pack).stat().st_size for pack in named)
    summary = lowtide.backup(source)

    assert summary["data_added"] < 66 * 1024 * 1024 - before // 2
    restic.run("check", "--read-data")


def test_sighup_is_ignored(gated: Lowtide, lowtide: Lowtide, restic: Restic, source: Path) -> None:
    lowtide.run("init")
    process = at_the_gate(gated, source, after=2)

    process.send_signal(signal.SIGHUP)
    (Path(gated.environment["GATE_FOLDER"]) / "go").touch()
    process.communicate(timeout=60)

    assert process.returncode == 0
    assert len(restic.snapshots()) == 1


def test_a_killed_backup_leaves_a_repository_that_checks_well(
    gated: Lowtide, lowtide: Lowtide, restic: Restic, source: Path, tmp_path: Path, place: str
) -> None:
    lowtide.run("init")
    process = at_the_gate(gated, source, after=5)
    process.kill()
    process.communicate()

    assert restic.snapshots() == []
    restic.run("unlock")
    lowtide.run("check", "--read-data")
    restic.run("check", "--read-data")
    lowtide.backup(source)
    restic.run("check", "--read-data")
    restic.run("restore", f"latest:{source}", "--target", tmp_path / "back")
    assert not [line for line in differences(describe(source), describe(tmp_path / "back")) if "b'.'" not in line]


def test_what_an_index_names_is_not_stored_again_after_a_kill(
    gated: Lowtide, lowtide: Lowtide, restic: Restic, source: Path, place: str
) -> None:
    """The first run is stopped and leaves an index, the second is killed, the third stores only what is new."""
    lowtide.run("init")
    process = at_the_gate(gated, source, after=8)
    until(lambda: len(stored_packs(place)) >= 8, "eight packs")
    process.terminate()
    process.communicate(timeout=40)
    named = indexed_packs(lowtide)
    (Path(gated.environment["GATE_FOLDER"]) / "waiting").unlink()

    process = at_the_gate(gated, source, after=2)
    process.kill()
    process.communicate()
    restic.run("unlock")
    lowtide.backup(source)

    index = [json.loads(lowtide.run("cat", "index", name).out) for name in restic.list_ids("index")]
    blobs = [blob["id"] for file in index for pack in file["packs"] for blob in pack["blobs"]]
    assert named <= {pack["id"] for file in index for pack in file["packs"]}
    assert len(blobs) == len(set(blobs))
    lowtide.run("check", "--read-data")


@pytest.mark.parametrize("fails", [1, 3, 6])
def test_a_pack_that_cannot_be_stored_ends_the_run_without_a_snapshot(
    fails: int, gated: Lowtide, lowtide: Lowtide, restic: Restic, tmp_path: Path, place: str
) -> None:
    """The same content twice: later files refer to blobs of the pack that failed."""
    make_plain_tree(tmp_path / "source" / "one", large=30 * 1024 * 1024)
    make_plain_tree(tmp_path / "source" / "two", large=30 * 1024 * 1024)
    lowtide.run("init")

    ran = gated.run("backup", *SMALL_PACKS, tmp_path / "source", code=1, extra={"GATE_FAILS": str(fails)})

    assert "could not store" in ran.err
    assert restic.snapshots() == []
    assert not list((Path(place) / "locks").iterdir())
    assert indexed_packs(lowtide) <= stored_packs(place)
    restic.run("check", "--read-data")
    lowtide.backup(tmp_path / "source")
    restic.run("check", "--read-data")


def test_a_sleeper_whose_lock_was_removed_publishes_nothing(
    gated: Lowtide, lowtide: Lowtide, restic: Restic, source: Path, place: str
) -> None:
    lowtide.run("init")
    process = at_the_gate(gated, source, after=4)
    process.send_signal(signal.SIGSTOP)
    restic.run("unlock", "--remove-all")
    restic.run("prune")
    (Path(gated.environment["GATE_FOLDER"]) / "go").touch()

    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert b"lock" in errors
    assert decode(Path(lowtide.environment[RESULT_FILE_VARIABLE]).read_bytes()).reason == "LockLost"
    assert restic.snapshots() == []
    assert not list((Path(place) / "index").iterdir())


def test_two_backups_at_once_both_land(lowtide: Lowtide, restic: Restic, source: Path, tmp_path: Path) -> None:
    lowtide.run("init")
    variables = {RESULT_FILE_VARIABLE: os.devnull}
    processes = [lowtide.start("backup", "--json", "--host", host, source, extra=variables) for host in ("a", "b")]
    for process in processes:
        process.communicate(timeout=120)

    assert [process.returncode for process in processes] == [0, 0]
    assert {snapshot["hostname"] for snapshot in restic.snapshots()} == {"a", "b"}
    restic.run("check", "--read-data")


def test_an_exclusive_lock_of_restic_is_respected(lowtide: Lowtide, restic: Restic, source: Path, place: str) -> None:
    """While restic checks (exclusively), a backup ends with 11, and with --retry-lock it waits."""
    lowtide.run("init")
    lowtide.backup(source)
    process = restic.start("check", "--read-data", "--limit-download", "3000")
    until(lambda: any((Path(place) / "locks").iterdir()), "restic's lock")

    ran = lowtide.run("backup", source, code=11)
    assert "locked" in ran.err
    process.terminate()
    process.communicate(timeout=30)
    lowtide.run("backup", source, "--retry-lock", "30s")
