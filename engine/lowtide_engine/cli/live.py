"""The live line on a terminal, by rich: imported only where there is a terminal and something to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar
from rich.table import Column

from lowtide_engine.reporting import shown

if TYPE_CHECKING:
    from lowtide_engine.reporting import Progress


def _whole() -> Column:
    """A column that is never cut, so that the line keeps to one row."""
    return Column(no_wrap=True)


def _cut() -> Column:
    """The column that takes what room is left."""
    return Column(no_wrap=True, overflow="ellipsis", ratio=1)


class LiveLine:
    """Bytes, files, rate and time left of one job, drawn over the same lines until it is closed."""

    def __init__(self, verb: str, console: Console | None = None) -> None:
        self._progress = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=_whole()),
            BarColumn(bar_width=12),
            DownloadColumn(binary_units=True, table_column=_whole()),
            TransferSpeedColumn(table_column=_whole()),
            TextColumn("{task.fields[files]}", table_column=_whole()),
            TimeRemainingColumn(compact=True, table_column=_whole()),
            TextColumn("{task.fields[current]}", markup=False, table_column=_cut()),
            console=console,
            transient=True,
            expand=True,
            refresh_per_second=5,
        )
        self._task = self._progress.add_task(verb, total=None, files="", current="")
        self._progress.start()

    def show(self, progress: Progress) -> None:
        known = progress.scan_finished and progress.bytes_total > 0
        files = f"{progress.files_done}/{progress.files_total} files" if known else f"{progress.files_done} files"
        if progress.errors:
            files += f", {progress.errors} errors"
        self._progress.update(
            self._task,
            total=progress.bytes_total if known else None,
            completed=progress.bytes_done,
            files=files,
            current=shown(progress.current[0])[-40:] if progress.current else "",
        )

    def close(self) -> None:
        self._progress.stop()
