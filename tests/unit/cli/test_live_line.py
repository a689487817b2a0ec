"""The live line of a terminal: bytes, files, rate and time left, by a clock that the test winds."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from lowtide_engine.cli.live import LiveLine
from lowtide_engine.reporting import Counted

MIB = 1 << 20


class Terminal:
    """What a person sees of one job at `now`, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._screen = io.StringIO()
        console = Console(
            file=self._screen, force_terminal=True, color_system=None, width=160, get_time=lambda: self.now
        )
        self.line = LiveLine("backup", console)

    def shows(self, progress: Counted, *, at: float) -> str:
        """The line behind its bar."""
        self.now = at
        before = len(self._screen.getvalue())
        self.line.show(progress)
        self.line._progress.refresh()
        drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._screen.getvalue()[before:])
        behind_bar = re.split(r"backup[ ━╸╺]+", re.split(r"[\r\n]", drawn.strip())[-1])[1]
        return " ".join(behind_bar.split())


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.line.close()


def at_mebibytes(done: int, total: int, *, scanned: bool = True) -> Counted:
    return Counted(done, 6, done * MIB, total * MIB, scan_finished=scanned)


def test_bytes_files_errors_and_what_is_read(terminal: Terminal) -> None:
    half = Counted(files_done=3, files_total=6, bytes_done=512, bytes_total=1024, errors=1, current=(b"/data/now",))
    assert terminal.shows(half, at=1) == "0.5/1.0 KiB ? 3/6 files, 1 errors --:-- /data/now"


def test_while_a_scan_goes_on_there_is_a_rate_and_no_time_left(terminal: Terminal) -> None:
    assert terminal.shows(at_mebibytes(0, 0, scanned=False), at=0) == "0/? bytes ? 0 files"
    assert terminal.shows(at_mebibytes(1, 4, scanned=False), at=1) == "1.0/? MiB ? 1 files"
    assert terminal.shows(at_mebibytes(2, 9, scanned=False), at=2) == "2.0/? MiB 1.0 MB/s 2 files"


def test_once_the_total_is_known_the_time_left_is_by_the_rate(terminal: Terminal) -> None:
    terminal.shows(at_mebibytes(0, 10), at=1)
    assert terminal.shows(at_mebibytes(0, 10), at=2) == "0.0/10.0 MiB ? 0/6 files --:--"
    assert terminal.shows(at_mebibytes(1, 10), at=3) == "1.0/10.0 MiB ? 1/6 files --:--"
    assert terminal.shows(at_mebibytes(2, 10), at=4) == "2.0/10.0 MiB 1.0 MB/s 2/6 files 00:08"
    assert terminal.shows(at_mebibytes(5, 10), at=5) == "5.0/10.0 MiB 2.1 MB/s 5/6 files 00:03"
    assert terminal.shows(at_mebibytes(10, 10), at=12) == "10.0/10.0 MiB 1.0 MB/s 10/6 files 00:00"


@pytest.mark.parametrize(("total", "left"), [(20, "00:16"), (8, "00:04"), (4, "00:00"), (3, "00:00")])
def test_a_total_that_changes_begins_the_rate_anew(terminal: Terminal, total: int, left: str) -> None:
    for second in range(3):
        terminal.shows(at_mebibytes(second, 10), at=second)
    unknown = "--:--" if total > 3 else "00:00"
    assert terminal.shows(at_mebibytes(3, total), at=3) == f"3.0/{total}.0 MiB ? 3/6 files {unknown}"
    assert terminal.shows(at_mebibytes(4, total), at=4) == f"4.0/{total}.0 MiB 1.0 MB/s 4/6 files {left}"


def test_a_job_that_stands_still_has_no_rate(terminal: Terminal) -> None:
    for second in range(3):
        terminal.shows(at_mebibytes(second, 10), at=second)
    assert terminal.shows(at_mebibytes(2, 10), at=60) == "2.0/10.0 MiB ? 2/6 files --:--"


def test_files_without_bytes_have_neither(terminal: Terminal) -> None:
    assert terminal.shows(Counted(3, 6, 0, 0), at=5) == "0/? bytes ? 3 files"
