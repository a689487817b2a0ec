"""The engine beside its peers: the same jobs on the same data, one after the other on one machine, as one table.

`python -m tests.bench engine --cases small,random --peers lowtide,restic --steps first,restore --storages memory,s3`
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.datasets import DATASETS, Dataset
from tests.bench.latency import delayed
from tests.bench.measuring import CommandFailed, Measured, measure, size_of
from tests.bench.peers import PEERS, Command, Job, Peer, Place, make_cheap
from tests.programs import BuildError
from tests.s3 import s3_server

STEPS = ("first", "unchanged", "change", "restore", "check", "prune")
STORAGES = {"memory": None, "s3": 0.0, "s3+20ms": 0.02}
MEGABYTE = 1e6
TRIES = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One step of one program; `failure` where it did not come to its end. `size` is the repository's, in bytes."""

    case: str
    storage: str
    step: str
    peer: str
    measured: Measured | None
    size: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Overhead:
    """Seconds that a program takes for what has nothing to do with the data; None where that can't be told apart."""

    key: float | None
    lock: float | None


def say(text: str) -> None:
    """One line of progress, at once, beside the table."""
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def run_series(job: Job, peer: Peer, data: Dataset, storage: str, steps: Sequence[str], limit: float) -> Iterator[Row]:
    """The steps on one fresh repository. Those that others need are done even where they are not asked for."""
    environment = job.environment()

    def do(commands: Sequence[Command]) -> Measured:
        folder = job.target if job.target.exists() else job.home
        total = Measured(0, 0, 0)
        for command in commands:
            total += measure(command, environment, folder=folder, limit=limit)
        return total

    if peer.format:
        make_cheap(job)
    else:
        do(peer.create(job))
    for step in STEPS:
        if step not in steps and step != "first":
            continue
        if step == "change":
            data.change(job.source)
        commands = {"restore": peer.restore, "check": peer.check, "prune": peer.prune}.get(step, peer.backup)(job)
        if step == "restore":
            if data.sparse and peer.sparse is None:
                yield Row(data.name, storage, step, peer.name, None, failure="can't leave holes out")
                continue
            if data.sparse and peer.sparse is not None:
                commands = [[*command, *peer.sparse] for command in commands]
            job.target.mkdir()
        try:
            measured = do(commands)
        except CommandFailed as error:
            yield Row(data.name, storage, step, peer.name, None, failure=str(error))
            if step == "first":
                return
        else:
            yield Row(data.name, storage, step, peer.name, measured, size_of(job.place.folder))
        finally:
            shutil.rmtree(job.target, ignore_errors=True)


@contextlib.contextmanager
def places(storage: str, work: Path) -> Iterator[Place]:
    """Where repositories go, each in a folder of the place's."""
    latency = STORAGES[storage]
    if latency is None:
        yield Place(work / "repository")
        return
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(s3_server(folder=work / "buckets"))
        port = stack.enter_context(delayed(server.port, latency)) if latency else server.port
        yield Place(
            server.folder / server.bucket / "repository",
            endpoint=f"http://127.0.0.1:{port}",
            bucket=server.bucket,
            environment=tuple(server.environment.items()),
        )


def compare(asked: argparse.Namespace, programs: dict[str, Path], work: Path) -> Iterator[Row]:
    """Every case with every program in every storage; each row as soon as it is known."""
    for case in asked.cases:
        data = DATASETS[case]
        original = work / "original"
        original.mkdir()
        began = time.monotonic()
        data.make(original)
        say(f"{case}: {data.text}: {count(original)} made in {time.monotonic() - began:.0f} s")
        for storage in asked.storages:
            for name in programs:
                peer = PEERS[name]
                if storage != "memory" and not peer.s3:
                    continue
                with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=work) as own, places(storage, Path(own)) as at:
                    home, source = Path(own, "home"), Path(own, "source")
                    home.mkdir()
                    # The change must not be there for the next program.
                    copy = "change" in asked.steps
                    if copy:
                        subprocess.run(["cp", "-a", "--sparse=always", original, source], check=True)
                    job = Job(programs[name], at, home, source if copy else original, Path(own, "target"))
                    for row in run_series(job, peer, data, storage, asked.steps, asked.limit):
                        say(shown(row))
                        yield row
        shutil.rmtree(original)


def count(folder: Path) -> str:
    """How much there is in a folder."""
    files = sum(len(names) for _, _, names in os.walk(folder))
    return f"{files:,} files, {size_of(folder) / MEGABYTE:,.0f} MB"


def shown(row: Row) -> str:
    """A row as a line of progress."""
    if row.measured is None:
        return f"{row.case} {row.storage} {row.step} {row.peer}: {row.failure}"
    wall, cpu, peak = row.measured.wall, row.measured.cpu, row.measured.peak / MEGABYTE
    return f"{row.case} {row.storage} {row.step} {row.peer}: {wall:.2f} s, {cpu:.2f} s of processor, {peak:.0f} MB"


def overhead(peer: Peer, program: Path, work: Path) -> Overhead:
    """What opening with the program's own key costs, and what its lock costs: differences of medians."""
    if not peer.format:
        return Overhead(None, None)
    with tempfile.TemporaryDirectory(prefix="overhead-", dir=work) as own:
        jobs = []
        for name in ("own", "cheap"):
            folder = Path(own, name)
            (folder / "home").mkdir(parents=True)
            jobs.append(Job(program, Place(folder / "repository"), folder / "home", folder, folder))
        own_key, cheap = jobs
        for command in peer.create(own_key):
            measure(command, own_key.environment(), folder=own_key.home, limit=60)
        make_cheap(cheap)

        def median(job: Job, arguments: Command) -> float:
            runs = [
                measure([*peer.call(job), *arguments], job.environment(), folder=job.home, limit=60).wall
                for _ in range(TRIES)
            ]
            return statistics.median(runs)

        key = median(own_key, ["snapshots"]) - median(cheap, ["snapshots"])
        if peer.lockless is None:
            return Overhead(key, 0.0)
        return Overhead(key, median(cheap, peer.lockless[0]) - median(cheap, peer.lockless[1]))


def table(rows: Sequence[Row], overheads: dict[str, Overhead]) -> Iterator[str]:
    """Everything as one markdown table; `x` is how many times as long (or as large) as Lowtide's it is."""
    yield (
        "| case | storage | step | program | wall, s | x | processor, s | x | peak, MB | repository, MB | x "
        "| key, s | lock, s |"
    )
    yield "|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    ours = {(row.case, row.storage, row.step): row for row in rows if row.peer == "lowtide"}
    for row in sorted(rows, key=lambda row: order(row, rows)):
        own = overheads.get(row.peer, Overhead(None, None))
        ends = f"{seconds(own.key)} | {seconds(own.lock)} |"
        lead = f"| {row.case} | {row.storage} | {row.step} | {row.peer} |"
        if row.measured is None:
            yield f"{lead} {row.failure.splitlines()[0][:60]} | | | | | | | {ends}"
            continue
        base = ours.get((row.case, row.storage, row.step))
        wall, cpu, size = (base.measured.wall, base.measured.cpu, base.size) if base and base.measured else (0, 0, 0)
        yield (
            f"{lead} {row.measured.wall:.2f} | {ratio(row.measured.wall, wall)} | "
            f"{row.measured.cpu:.2f} | {ratio(row.measured.cpu, cpu)} | "
            f"{row.measured.peak / MEGABYTE:.0f} | {row.size / MEGABYTE:.0f} | {ratio(row.size, size)} | "
            f"{ends}"
        )


def order(row: Row, rows: Sequence[Row]) -> tuple[int, int, int]:
    """By case and storage as they were measured, then by step, then by program."""
    cases = list(dict.fromkeys((other.case, other.storage) for other in rows))
    return cases.index((row.case, row.storage)), STEPS.index(row.step), [*PEERS].index(row.peer)


def ratio(value: float, base: float) -> str:
    """How many times `base` it is; nothing where there is no base (0)."""
    return f"{value / base:.2f}" if base else ""


def seconds(value: float | None) -> str:
    """Seconds, or a word where they are part of every step."""
    return "within" if value is None else f"{max(value, 0.0):.2f}"


def machine() -> str:
    """The kind of machine, without its name."""
    models = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    model = models[0] if models else platform.machine()
    return f"{os.cpu_count()} × {model}, {int(memory) / 1e6:.0f} GB of memory, Linux {platform.release().split('-')[0]}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; by default everything."""

    def chosen(known: Sequence[str]) -> Callable[[str], list[str]]:
        def split(text: str) -> list[str]:
            names = text.split(",")
            if unknown := sorted(set(names) - set(known)):
                raise argparse.ArgumentTypeError(f"no such: {', '.join(unknown)}; there are {', '.join(known)}")
            return names

        return split

    parser = argparse.ArgumentParser(prog="python -m tests.bench engine", description=__doc__)
    for option, known in (("cases", DATASETS), ("peers", PEERS), ("steps", STEPS), ("storages", STORAGES)):
        names = [*known]
        parser.add_argument(f"--{option}", type=chosen(names), default=names, help=f"some of {','.join(names)}")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which one command is given up")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where data and repositories are")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Measure what is asked for and print the table on stdout. Whatever it made is gone when it ends."""
    asked = parsed(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    programs: dict[str, Path] = {}
    for name in asked.peers:
        try:
            programs[name] = PEERS[name].find()
        except (BuildError, OSError, subprocess.CalledProcessError) as error:
            say(f"{name} is left out: {error}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="lowtide-bench-", dir=asked.folder) as work:
        overheads = {name: overhead(PEERS[name], program, Path(work)) for name, program in programs.items()}
        rows.extend(compare(asked, programs, Path(work)))
    versions = ", ".join(f"{name} ({PEERS[name].version})" for name in programs)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; {versions}\n")
    print("\n".join(table(rows, overheads)), flush=True)
    return 1 if any(row.measured is None and row.peer == "lowtide" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
