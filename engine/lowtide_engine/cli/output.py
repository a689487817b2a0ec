"""What a command prints: text for people, JSON lines for machines, a live line where there is a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lowtide_engine.reporting import Meter, Progress, shown

if TYPE_CHECKING:
    from lowtide_engine.cli.live import LiveLine
    from lowtide_engine.cli.options import Settings

KEPT_WARNINGS = 10


class Output:
    """Prints for one command, and counts what went wrong. A `Reporter`; `verb` is backup, restore or check.

    Results go to the standard output, complaints to the standard error. `warnings` keeps the first ten sentences for
    the result document, `errors` counts all. `transferred` is where the storage counts its bytes: a status line is due
    when nothing else has moved, too, as while one pack takes minutes.
    """

    def __init__(self, settings: Settings, verb: str) -> None:
        self.json = settings.json
        self.quiet = settings.quiet
        self.verbose = settings.verbose
        self.errors = 0
        self.warnings: list[str] = []
        self.transferred = Meter()
        self._verb = verb
        self._started = time.monotonic()
        self._interval = _interval(settings.environment)
        self._last = self._started
        self._moved: tuple[object, ...] = ()
        self._live: LiveLine | None = None
        self._terminal = not settings.json and not settings.quiet and sys.stdout.isatty()

    def line(self, text: str = "") -> None:
        """A line of the result for people."""
        if not self.json and not self.quiet:
            print(text, flush=self._terminal)

    def message(self, message_type: str, content: Mapping[str, Any]) -> None:
        """A JSON line, with --json only."""
        if self.json:
            print(json.dumps({"message_type": message_type, **content}, separators=(",", ":")), flush=True)

    def summary(self, content: Mapping[str, Any], lines: Sequence[str]) -> None:
        """The end: `content` as JSON, or `lines` as text."""
        self.stop_live()
        self.message("summary", content)
        for text in lines:
            self.line(text)

    def warn(self, text: str) -> None:
        """A sentence to the standard error that is kept for the result."""
        if len(self.warnings) < KEPT_WARNINGS:
            self.warnings.append(text)
        if self.json:
            print(json.dumps({"message_type": "warning", "message": text}), file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def notice(self, message: str) -> None:
        if self.json:
            self.message("notice", {"message": message})
        elif not self.quiet:
            print(message, file=sys.stderr, flush=True)

    def item_error(self, path: bytes, during: str, message: str) -> None:
        self.errors += 1
        sentence = f"{during} {shown(path)}: {message}"
        if len(self.warnings) < KEPT_WARNINGS:
            self.warnings.append(sentence)
        if self.json:
            content = {"message_type": "error", "error": {"message": message}, "during": during, "item": shown(path)}
            print(json.dumps(content), file=sys.stderr, flush=True)
        else:
            print(f"error: {sentence}", file=sys.stderr, flush=True)

    def item_done(self, path: bytes, action: str, size: int) -> None:
        if not self.verbose:
            return
        if self.json:
            self.message("verbose_status", {"action": action, "item": shown(path), "data_size": size})
        else:
            self.line(f"{action:<10} {shown(path)}")

    def problem(self, kind: str, message: str) -> None:
        self.errors += 1
        if len(self.warnings) < KEPT_WARNINGS:
            self.warnings.append(message)
        if self.json:
            content = {"message_type": "error", "kind": kind, "message": message}
            print(json.dumps(content), file=sys.stderr, flush=True)
        else:
            print(f"error: {message}", file=sys.stderr, flush=True)

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._terminal:
            if self._live is None:
                from lowtide_engine.cli.live import LiveLine

                self._live = LiveLine(self._verb)
            self._live.show(progress)
        elif self.json and not self.quiet and now - self._last >= self._interval:
            # A mover that hangs is found by its silence: nothing is said again that was said already.
            moved = (*_position(progress), self.transferred.total)
            if moved != self._moved:
                self._last, self._moved = now, moved
                self.message("status", self._status(progress, now - self._started))

    def stop_live(self) -> None:
        """Take the live line away; idempotent."""
        if self._live is not None:
            self._live.close()
            self._live = None

    def _status(self, progress: Progress, elapsed: float) -> dict[str, Any]:
        total = progress.bytes_total if progress.scan_finished or self._verb != "backup" else 0
        done = min(1.0, progress.bytes_done / total) if total else 0.0
        status: dict[str, Any] = {"seconds_elapsed": int(elapsed), "percent_done": round(done, 6)}
        status["bytes_transferred"] = self.transferred.total
        if done > 0:
            status["seconds_remaining"] = int(elapsed / done - elapsed)
        if self._verb == "restore":
            return status | {
                "total_files": progress.files_total,
                "files_restored": progress.files_done,
                "total_bytes": progress.bytes_total,
                "bytes_restored": progress.bytes_done,
            }
        return status | {
            "total_files": progress.files_total,
            "files_done": progress.files_done,
            "total_bytes": progress.bytes_total,
            "bytes_done": progress.bytes_done,
            "error_count": progress.errors,
            "current_files": [shown(path) for path in progress.current],
        }


def _position(progress: Progress) -> tuple[object, ...]:
    """What differs as soon as a job did anything. The kernel counts steps too, within a large file for example."""
    numbers = (progress.files_done, progress.files_total, progress.bytes_done, progress.bytes_total, progress.errors)
    return (*numbers, getattr(progress, "steps", 0), *progress.current)


def _interval(environment: Mapping[str, str]) -> float:
    """Seconds between two status lines: by RESTIC_PROGRESS_FPS, else 2, so that hours of a mover fit into a log."""
    try:
        rate = float(environment.get("RESTIC_PROGRESS_FPS", ""))
    except ValueError:
        return 2.0
    return 1 / min(rate, 60.0) if rate > 0 else 2.0


def human_size(size: int) -> str:
    """`size` bytes as a person reads it, like 1.234 MiB."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{size} B" if unit == "B" else f"{value:.3f} {unit}"
        value /= 1024
    return f"{value:.3f} TiB"


def human_duration(seconds: float) -> str:
    """`seconds` as m:ss or h:mm:ss."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], footer: str = "") -> str:
    """A table as restic prints it: columns, rules, a footer. A cell may have several lines."""
    split = [[cell.split("\n") for cell in row] for row in rows]
    widths = [
        max(len(heading), *(len(part) for row in split for part in row[column]), 0) if rows else len(heading)
        for column, heading in enumerate(headings)
    ]

    def format_row(cells: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    lines = [format_row(headings)]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines.append(rule)
    for row in split:
        for number in range(max(len(cell) for cell in row)):
            lines.append(format_row([cell[number] if number < len(cell) else "" for cell in row]))
    lines.append(rule)
    return "\n".join([*lines, footer] if footer else lines)


def print_json(value: Any) -> None:
    """One JSON document on a line of the standard output."""
    print(json.dumps(value, separators=(",", ":"), ensure_ascii=False), flush=True)


def environment_host(environment: Mapping[str, str]) -> str:
    """The host that snapshots are written for and selected by: RESTIC_HOST, else the machine's name."""
    return environment.get("RESTIC_HOST") or os.uname().nodename
