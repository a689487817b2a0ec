"""The status lines of a job: how often, what they say, and that they stop where the job stands still."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from lowtide_engine.cli import output
from lowtide_engine.cli.output import Output
from lowtide_engine.reporting import Counted


@dataclass(frozen=True)
class Stepping(Counted):
    """As the kernel's progress: with steps that show in no other number."""

    steps: int = 0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(output, "time", clock)
    return clock


def machine(verb: str, *, quiet: bool = False) -> Output:
    settings: Any = SimpleNamespace(json=True, quiet=quiet, verbose=0, environment={})
    return Output(settings, verb)


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_status_lines_come_at_most_every_two_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    out = machine("backup")
    for tick in range(41):
        clock.now = 1000.0 + tick / 4
        out.progress(Counted(tick, 100, tick * 10, 1000))
    lines = said(capsys)
    assert [line["files_done"] for line in lines] == [8, 16, 24, 32, 40]
    assert lines[-1]["percent_done"] == 0.4
    assert lines[-1]["seconds_remaining"] == 15


def test_a_job_that_stands_still_is_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """That is how a mover that hangs is told from one that works."""
    out = machine("restore")
    for second in range(0, 60, 3):
        clock.now = 1000.0 + second
        out.progress(Counted(1, 4, 50, 100))
    assert len(said(capsys)) == 1


def test_one_that_compares_within_a_large_file_is_not(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    out = machine("restore")
    for second in range(3, 60, 3):
        clock.now = 1000.0 + second
        out.progress(Stepping(1, 4, 50, 100, steps=second))
    lines = said(capsys)
    assert len(lines) == 19
    assert (lines[0]["files_restored"], lines[0]["bytes_restored"], lines[0]["total_bytes"]) == (1, 50, 100)


def test_while_a_scan_goes_on_there_is_no_percentage(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    out = machine("backup")
    clock.now += 5
    out.progress(Counted(1, 2, 50, 60, scan_finished=False, current=(b"/a\xff",)))
    (line,) = said(capsys)
    assert line["percent_done"] == 0
    assert line["current_files"] == ["/a\\xff"]


@pytest.mark.parametrize(
    ("done", "total", "percent", "left"),
    [(0, 100, 0, None), (25, 100, 0.25, 15), (25, 200, 0.125, 35), (100, 100, 1, 0), (120, 100, 1, 0)],
)
def test_the_time_left_is_by_what_is_done(
    done: int, total: int, percent: float, left: int | None, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    out = machine("backup")
    clock.now += 5
    out.progress(Counted(0, 1, done, total))
    (line,) = said(capsys)
    assert (line["percent_done"], line.get("seconds_remaining")) == (percent, left)


def test_quiet_is_quiet(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    out = machine("backup", quiet=True)
    clock.now += 5
    out.progress(Counted(1, 2, 50, 60))
    assert said(capsys) == []
