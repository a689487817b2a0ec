"""Drives a run of the kernel against a repository folder, as the engine does against a storage."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lowtide_engine import _kernel as kernel
from tests.programs import NoCompiler, program
from tests.unit.kernel.plain_repository import PlainRepository

PASSWORD = "geheim"


@dataclass
class Ended:
    """What a run said."""

    root: str = ""
    summary: dict[str, int] = field(default_factory=dict)
    errors: list[kernel.ItemError] = field(default_factory=list)
    done: list[kernel.ItemDone] = field(default_factory=list)
    packs: dict[str, str] = field(default_factory=dict)
    """Pack ids and their kinds, in the order in which they came."""
    indexes: list[bytes] = field(default_factory=list)

    def failures(self) -> list[kernel.ItemError]:
        return [e for e in self.errors if not e.notice]


def store(repository: PlainRepository, kind: str, plain: bytes) -> str:
    """Seal and write an unpacked file of a repository of version 2."""
    sealed = repository.key.seal(b"\x02" + kernel.zstd_compress(plain))
    name = hashlib.sha256(sealed).hexdigest()
    (repository.folder / kind / name).write_bytes(sealed)
    return name


def answer(run: kernel.Run, repository: PlainRepository, event: object, ended: Ended) -> None:
    """Do what the event asks for."""
    match event:
        case kernel.PackReady():
            assert isinstance(run, kernel.Backup)
            data = memoryview(event.data)
            assert hashlib.sha256(data).hexdigest() == event.pack
            repository.pack(event.pack).parent.mkdir(exist_ok=True)
            repository.pack(event.pack).write_bytes(data)
            ended.packs[event.pack] = event.kind
            run.pack_stored(event.pack)
        case kernel.IndexReady():
            assert isinstance(run, kernel.Backup)
            store(repository, "index", event.json)
            ended.indexes.append(event.json)
            run.index_stored(event.ticket)
        case kernel.Fetch():
            with repository.pack(event.pack).open("rb") as pack:
                pack.seek(event.offset)
                run.provide(event.ticket, pack.read(event.length))
        case kernel.ItemError():
            ended.errors.append(event)
        case kernel.ItemDone():
            ended.done.append(event)
        case kernel.Finished():
            ended.root, ended.summary = event.root, event.summary


def drive(
    run: kernel.Run, repository: PlainRepository, *, before: Callable[[object], None] = lambda event: None
) -> Ended:
    """Answer every event until the run is finished; `before` sees each first."""
    ended = Ended()
    while True:
        event = run.next(60)
        assert event is not None, "the run gave no event for a minute"
        before(event)
        answer(run, repository, event, ended)
        if isinstance(event, kernel.Finished):
            return ended


class Restic:
    """restic's own program on one repository folder."""

    def __init__(self, folder: Path) -> None:
        try:
            self.program = program("restic")
        except NoCompiler as error:
            pytest.skip(f"restic can't be built: {error}")
        self.folder = folder

    def __call__(self, *arguments: str, cwd: Path | None = None, check: bool = True, zone: str = "UTC") -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder.parent),
            "TZ": zone,
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_FEATURES": "device-id-for-hardlinks",
        }
        command = [self.program, "--repo", self.folder, "--no-cache", "--quiet", *arguments]
        done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def backup(self, *arguments: str, cwd: Path | None = None, zone: str = "UTC") -> str:
        """Back up; the snapshot's tree."""
        self("backup", *arguments, cwd=cwd, check=False, zone=zone)
        snapshots: list[dict[str, Any]] = json.loads(self("snapshots", "--json"))
        return str(max(snapshots, key=lambda s: s["time"])["tree"])


def new_repository(folder: Path, *, version: int = 2) -> tuple[Restic, PlainRepository]:
    restic = Restic(folder)
    restic("init", "--repository-version", str(version))
    return restic, PlainRepository(folder, PASSWORD)


def backup(
    repository: PlainRepository, *targets: bytes, index: kernel.Index | None = None, **options: Any
) -> kernel.Backup:
    """Start a backup with the index that the repository has now."""
    return kernel.Backup(
        repository.key,
        repository.index() if index is None else index,
        polynomial=repository.polynomial,
        version=repository.config["version"],
        targets=targets,
        **options,
    )
