"""Stopped while it reads, by a storage that answers no more: it ends in time, and its lock doesn't stay behind."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from lowtide_engine.contract import RESULT_FILE_VARIABLE, decode
from tests.conformance.actors import Lowtide, Restic
from tests.conformance.trees import make_plain_tree

pytestmark = pytest.mark.oracle
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_plain_tree(tmp_path / "source", large=40 * 1024 * 1024)
    return tmp_path / "source"


def stop_while_it_reads(lowtide: Lowtide, folder: Path, *words: str | Path, after: int) -> float:
    """Start a command whose storage gives so many pieces of packs and then hangs, and stop it there; gives how many
    seconds it took to end."""
    gate = folder / "gate"
    gate.mkdir()
    environment = lowtide.environment | {"GATE_FOLDER": str(gate), "PYTHONPATH": str(CHECKOUT)}
    gated = Lowtide([sys.executable, "-m", "tests.conformance.gated"], lowtide.repository, environment)
    process = gated.start(*words, "--no-cache", extra={"GATE_LOADS": str(after)})
    deadline = time.monotonic() + 60
    while not (gate / "waiting").exists():
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline, "it never came to the gate"
        time.sleep(0.02)

    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert process.returncode == 130
    assert decode(Path(lowtide.environment[RESULT_FILE_VARIABLE]).read_bytes()).reason == "Interrupted"
    return time.monotonic() - began


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(0, id="while the command itself looks into a tree"),
        pytest.param(12, id="while the kernel waits for data"),
    ],
)
def test_a_restore_that_is_stopped_leaves_no_lock_and_can_be_repeated(
    after: int, lowtide: Lowtide, restic: Restic, source: Path, place: str, tmp_path: Path
) -> None:
    lowtide.run("init")
    lowtide.backup(source, "--pack-size", "4")
    words = ("restore", f"latest:{source}", "--target", tmp_path / "target")

    seconds = stop_while_it_reads(lowtide, tmp_path, *words, after=after)

    assert seconds < 25
    assert not list((Path(place) / "locks").iterdir())
    lowtide.run(*words)
    assert (tmp_path / "target" / "large").read_bytes() == (source / "large").read_bytes()


def test_a_check_that_is_stopped_leaves_no_lock(
    lowtide: Lowtide, restic: Restic, source: Path, place: str, tmp_path: Path
) -> None:
    lowtide.run("init")
    lowtide.backup(source, "--pack-size", "4")

    seconds = stop_while_it_reads(lowtide, tmp_path, "check", "--read-data", after=8)

    assert seconds < 25
    assert not list((Path(place) / "locks").iterdir())
