"""Lowtide and its peers: how each is had, and what is said to it for the same job.

Each has its own default of everything, in the programs of restic's format also the verification before upload; but Borg
and Kopia, which compress little or nothing by default, are told to use zstd.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lowtide_engine.repository import KdfParameters, Password, init_repository
from lowtide_engine.storage import SystemClock, find_location, open_storage, options_from_environment
from tests import programs

PASSWORD = "a password for the bench"
CHEAP = KdfParameters(128, 1, 1)
RESTIC, RUSTIC, KOPIA = "0.19.1", "0.11.4", "0.22.3"
PINS = Path(__file__).resolve().parent / "tools"
"""Go modules of programs that only the bench needs, so that nothing else builds them."""

Command = Sequence[str | Path]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one repository is: a folder in memory, or below a bucket at `endpoint` with these credentials."""

    folder: Path
    endpoint: str = ""
    bucket: str = ""
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def restic(self) -> str:
        """As restic and Lowtide name it."""
        return f"s3:{self.endpoint}/{self.bucket}/{self.folder.name}" if self.endpoint else str(self.folder)


@dataclass(frozen=True, slots=True)
class Job:
    """One series of steps: `home` is the program's own (its settings and caches)."""

    program: Path
    place: Place
    home: Path
    source: Path
    target: Path

    def environment(self) -> dict[str, str]:
        """All that a program gets to know."""
        found = {name: os.environ[name] for name in ("PATH", "TMPDIR", "SSL_CERT_FILE") if name in os.environ}
        return {
            **found,
            **dict(self.place.environment),
            "HOME": str(self.home),
            "TZ": "UTC",
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "RESTIC_REPOSITORY": self.place.restic,
            "RESTIC_PASSWORD": PASSWORD,
            "BORG_REPO": str(self.place.folder),
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_BASE_DIR": str(self.home),
            "KOPIA_PASSWORD": PASSWORD,
            "KOPIA_CHECK_FOR_UPDATES": "false",
            "KOPIA_PERSIST_CREDENTIALS_ON_CONNECT": "false",
        }


@dataclass(frozen=True, slots=True)
class Peer:
    """One program. `call` is what each of its commands begins with. Each step is some commands, measured as one;
    `restore` runs in the empty target.
    """

    name: str
    version: str
    find: Callable[[], Path]
    call: Callable[[Job], Sequence[str | Path]]
    create: Callable[[Job], Sequence[Command]]
    backup: Callable[[Job], Sequence[Command]]
    restore: Callable[[Job], Sequence[Command]]
    check: Callable[[Job], Sequence[Command]]
    prune: Callable[[Job], Sequence[Command]]
    sparse: tuple[str, ...] | None
    """What a restore needs to leave holes out; None where it can't."""
    s3: bool
    format: bool
    """Whether it reads and writes restic's format: then its repositories are made with a key that costs nothing."""
    lockless: tuple[Command, Command] | None = None
    """Twice the same small command, the second without a lock."""


def make_cheap(job: Job) -> None:
    """A repository in restic's format whose key is derived at once, for every program of that format."""
    environment = job.environment()
    location = find_location(job.place.restic, environment)
    storage = open_storage(location, options_from_environment(environment), clock=SystemClock())
    init_repository(storage, Password(PASSWORD), clock=SystemClock(), kdf=CHEAP).close()


def _bench_folder(name: str) -> Path:
    return programs.cache_root() / "bench" / name


def _rustic() -> Path:
    def make(target: Path) -> None:
        root = target.with_suffix(".root")
        try:
            install = ["cargo", "install", "--locked", "--quiet", "--no-track", "--root", str(root)]
            subprocess.run([*install, f"rustic-rs@{RUSTIC}"], check=True, stdout=sys.stderr)
            (root / "bin" / "rustic").rename(target)
        finally:
            shutil.rmtree(root, ignore_errors=True)

    return programs.cached(_bench_folder(f"rustic-{RUSTIC}"), "rustic", make)


def _borg() -> Path:
    found = shutil.which("borg")
    if found is None:
        raise programs.BuildError("borg is missing: `apt-get install borgbackup`, or leave it out by --peers")
    return Path(found)


def _kopia() -> Path:
    spec = programs.Program("kopia", "github.com/kopia/kopia", tags="nohtmlui")
    folder = _bench_folder(f"kopia-{KOPIA}")
    return programs.cached(folder, "kopia", lambda target: programs.build(PINS / "kopia", spec, target))


def _kopia_repository(job: Job) -> list[Command]:
    """A new one, and zstd for all that it will hold; credentials come by the environment."""
    place = job.place
    where: list[str | Path] = ["filesystem", "--path", place.folder]
    if place.endpoint:
        host = place.endpoint.removeprefix("http://")
        where = ["s3", "--disable-tls", "--endpoint", host, "--bucket", place.bucket]
        where += ["--prefix", f"{place.folder.name}/", "--region", dict(place.environment)["AWS_DEFAULT_REGION"]]
    return [
        [job.program, "repository", "create", *where],
        [job.program, "policy", "set", "--global", "--compression", "zstd"],
    ]


def _kopia_prune(job: Job) -> list[Command]:
    """As much as it does on the day itself: whatever it is told, it frees the space of what it drops on later days."""
    return [
        [
            *(job.program, "policy", "set", job.source, "--keep-latest", "1"),
            *(part for age in ("hourly", "daily", "weekly", "monthly", "annual") for part in (f"--keep-{age}", "0")),
        ],
        [job.program, "snapshot", "expire", "--delete", job.source],
        [job.program, "maintenance", "run", "--full", "--safety", "none"],
    ]


def _plain(job: Job) -> list[str | Path]:
    return [job.program]


def _rustic_with_profile(job: Job) -> list[str | Path]:
    """rustic with its profile, which is written where it is missing: it takes a bucket's settings from there only."""
    profile = job.home / "bench.toml"
    if not profile.exists():
        repository = f'repository = "{job.place.folder}"\n'
        if job.place.endpoint:
            given = dict(job.place.environment)
            repository = 'repository = "opendal:s3"\n[repository.options]\n' + "".join(
                f'{name} = "{value}"\n'
                for name, value in {
                    "bucket": job.place.bucket,
                    "root": job.place.folder.name,
                    "endpoint": job.place.endpoint,
                    "region": given["AWS_DEFAULT_REGION"],
                    "access_key_id": given["AWS_ACCESS_KEY_ID"],
                    "secret_access_key": given["AWS_SECRET_ACCESS_KEY"],
                }.items()
            )
        profile.write_text(f'[repository]\npassword = "{PASSWORD}"\ncache-dir = "{job.home}/cache"\n{repository}')
    return [job.program, "-P", str(profile.with_suffix(""))]


def _like_restic(name: str, version: str, find: Callable[[], Path]) -> Peer:
    return Peer(
        name,
        version,
        find,
        _plain,
        create=lambda job: [[job.program, "init"]],
        backup=lambda job: [[job.program, "backup", job.source]],
        restore=lambda job: [[job.program, "restore", "latest", "--target", job.target]],
        check=lambda job: [[job.program, "check", "--read-data"]],
        prune=lambda job: [[job.program, "forget", "--keep-last", "1", "--prune"]],
        sparse=("--sparse",),
        s3=True,
        format=True,
        lockless=(["snapshots"], ["snapshots", "--no-lock"]),
    )


_BORG_EXTRACT = 'exec borg extract "$@" "::$(borg list --last 1 --short)"'

PEERS = {
    peer.name: peer
    for peer in (
        _like_restic("lowtide", "this checkout", lambda: Path(sys.executable).with_name("lowtide")),
        _like_restic("restic", RESTIC, lambda: programs.program("restic")),
        Peer(
            "rustic",
            RUSTIC,
            _rustic,
            _rustic_with_profile,
            create=lambda job: [[*_rustic_with_profile(job), "init"]],
            backup=lambda job: [[*_rustic_with_profile(job), "backup", job.source]],
            restore=lambda job: [[*_rustic_with_profile(job), "restore", "latest", job.target]],
            check=lambda job: [[*_rustic_with_profile(job), "check", "--read-data"]],
            prune=lambda job: [
                [*_rustic_with_profile(job), "forget", "--keep-last", "1"],
                [*_rustic_with_profile(job), "prune", "--instant-delete"],
            ],
            sparse=None,
            s3=True,
            format=True,
        ),
        Peer(
            "kopia",
            KOPIA,
            _kopia,
            _plain,
            create=_kopia_repository,
            backup=lambda job: [[job.program, "snapshot", "create", "--no-progress", job.source]],
            restore=lambda job: [[job.program, "restore", job.source, job.target]],
            check=lambda job: [[job.program, "snapshot", "verify", "--verify-files-percent", "100"]],
            prune=_kopia_prune,
            sparse=("--write-sparse-files",),
            s3=True,
            format=False,
        ),
        Peer(
            "borg",
            "Debian's",
            _borg,
            _plain,
            create=lambda job: [[job.program, "init", "--encryption", "repokey-blake2"]],
            backup=lambda job: [[job.program, "create", "--compression", "zstd,3", "::{utcnow}", job.source]],
            restore=lambda job: [["sh", "-c", _BORG_EXTRACT, "borg"]],
            check=lambda job: [[job.program, "check", "--verify-data"]],
            prune=lambda job: [[job.program, "prune", "--keep-last", "1"], [job.program, "compact"]],
            sparse=("--sparse",),
            s3=False,
            format=False,
        ),
    )
}
