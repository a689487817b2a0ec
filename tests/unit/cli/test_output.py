"""What is printed for whom: JSON lines for programs, text for the rest; the live line has tests of its own."""

from __future__ import annotations

import json
import time

import pytest

from lowtide_engine.cli.options import Settings
from lowtide_engine.cli.output import Output, human_duration, human_size, table
from lowtide_engine.reporting import Counted, shown

HALF = Counted(files_done=3, files_total=6, bytes_done=512, bytes_total=1024, errors=1, current=(b"/data/now",))


def json_lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_status_has_restics_fields(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output(Settings(json=True, environment={"RESTIC_PROGRESS_FPS": "60"}), "backup")
    later = time.monotonic() + 10
    monkeypatch.setattr(time, "monotonic", lambda: later)

    output.progress(HALF)

    (line,) = json_lines(capsys.readouterr().out)
    assert line["message_type"] == "status"
    assert line["percent_done"] == 0.5
    assert (line["total_files"], line["files_done"], line["total_bytes"], line["bytes_done"]) == (6, 3, 1024, 512)
    assert line["error_count"] == 1
    assert line["current_files"] == ["/data/now"]
    assert line["seconds_elapsed"] == line["seconds_remaining"] == 10


def test_status_lines_come_seldom_enough_for_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(Settings(json=True), "backup")

    for _ in range(100):
        output.progress(HALF)

    assert capsys.readouterr().out == ""


def test_bytes_that_reach_the_storage_are_progress_and_silence_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mover that sends one pack for minutes moves; one whose connection hangs says nothing."""
    output = Output(Settings(json=True), "backup")
    now = time.monotonic()

    def lines_at(seconds: float) -> list[object]:
        monkeypatch.setattr(time, "monotonic", lambda: now + seconds)
        output.progress(HALF)
        return [line["bytes_transferred"] for line in json_lines(capsys.readouterr().out)]

    assert lines_at(10) == [0]
    assert lines_at(20) == []
    output.transferred.add(4096)
    assert lines_at(30) == [4096]
    assert lines_at(40) == []


@pytest.mark.parametrize("settings", [Settings(), Settings(quiet=True), Settings(json=True, quiet=True)])
def test_no_progress_where_nobody_looks(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(settings, "backup")

    output.progress(HALF)

    assert capsys.readouterr().out == ""


def test_the_first_ten_warnings_are_kept_and_all_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(Settings(), "backup")

    for number in range(25):
        output.item_error(f"/f{number}".encode(), "open", "Permission denied")

    assert output.errors == 25
    assert output.warnings == [f"open /f{number}: Permission denied" for number in range(10)]
    assert len(capsys.readouterr().err.splitlines()) == 25


def test_names_cannot_paint_the_terminal_or_forge_lines() -> None:
    assert shown(b"plain \xc3\xbc") == "plain ü"
    assert shown(b"bad \xff") == "bad \\xff"
    assert shown(b"a\nerror: b\x1b[31m") == "a\\nerror: b\\x1b[31m"


def test_sizes_and_durations_for_people() -> None:
    assert [human_size(size) for size in (0, 1023, 1024, 1536 * 1024, 5 << 40)] == [
        "0 B",
        "1023 B",
        "1.000 KiB",
        "1.500 MiB",
        "5.000 TiB",
    ]
    assert [human_duration(seconds) for seconds in (0.4, 61, 3723)] == ["0:00", "1:01", "1:02:03"]


def test_a_table_has_columns_rules_and_cells_of_several_lines() -> None:
    assert table(["A", "Bee"], [["1", "x\nyy"]], "one").splitlines() == [
        "A  Bee",
        "------",
        "1  x",
        "   yy",
        "------",
        "one",
    ]
