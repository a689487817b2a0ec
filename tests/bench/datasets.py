"""What is backed up: made from what every machine that builds this has, or by a seeded generator."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.programs import TOOLS

MEGABYTE = 1 << 20
SMALL_FILES = 59_000
SMALL_BYTES = 670_000_000
EMPTY_FILES = 200_000
PAGE = 8192
DATABASE_PAGES = 2_000_000_000 // PAGE
PART = 500
"""Of the small files, one in so many changes."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """`make` fills an empty folder, `change` alters a little of it."""

    name: str
    text: str
    make: Callable[[Path], None]
    change: Callable[[Path], None]
    sparse: bool = False


def _small(folder: Path) -> None:
    found, size = 0, 0
    for number, module in enumerate(_modules()):
        for where, below, names in os.walk(module):
            below.sort()
            there = folder / f"{number:04}-{module.name}" / os.path.relpath(where, module)
            there.mkdir(parents=True, exist_ok=True)
            for name in sorted(names):
                source = Path(where, name)
                if source.is_symlink():
                    continue
                shutil.copyfile(source, there / name)
                found, size = found + 1, size + source.stat().st_size
                if found == SMALL_FILES or size >= SMALL_BYTES:
                    return


def _modules() -> Iterator[Path]:
    """The unpacked Go modules of the tests' programs."""
    found: set[Path] = set()
    for pins in sorted(path.parent for path in TOOLS.glob("*/go.mod")):
        command = ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", "all"]
        done = subprocess.run(command, cwd=pins, capture_output=True, text=True, check=False)
        found |= {Path(line) for line in done.stdout.splitlines() if line}
    yield from sorted(path for path in found if TOOLS not in path.parents and path.is_dir())


def _libraries(folder: Path) -> None:
    command = ["rustc", "--print", "sysroot"]
    root = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    shutil.copytree(root / "lib", folder / "lib", symlinks=True)


def _change_files(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    for path in files[:: PART if len(files) > PART else len(files) // 2]:
        with path.open("ab") as file:
            file.write(b"changed\n")


def _random(folder: Path) -> None:
    with (folder / "random").open("wb") as file:
        for _ in range(1500):
            file.write(os.urandom(1_000_000))


def _change_random(folder: Path) -> None:
    with (folder / "random").open("r+b") as file:
        file.seek(700_000_000)
        file.write(os.urandom(MEGABYTE))


def _page(source: random.Random, number: int) -> bytes:
    """A header and rows of text and numbers: about half of a page compresses away."""
    rows = b"".join(
        b"%010d|customer-%06d|%s|" % (number * 64 + row, source.randrange(10**6), source.randbytes(48))
        for row in range(PAGE // 80)
    )
    return (number.to_bytes(8, "little") + rows)[:PAGE].ljust(PAGE, b"\0")


def _database(folder: Path) -> None:
    source = random.Random(1)
    with (folder / "database").open("wb") as file:
        for number in range(DATABASE_PAGES):
            file.write(_page(source, number))


def _change_database(folder: Path) -> None:
    source = random.Random(2)
    with (folder / "database").open("r+b") as file:
        for number in sorted(source.sample(range(DATABASE_PAGES), DATABASE_PAGES // 100)):
            file.seek(number * PAGE)
            file.write(_page(source, number))


def _empties(folder: Path) -> None:
    (folder / "many").mkdir()
    for number in range(EMPTY_FILES):
        (folder / "many" / f"{number:06}").touch()


def _change_empties(folder: Path) -> None:
    for number in range(EMPTY_FILES, EMPTY_FILES + 100):
        (folder / "many" / f"{number:06}").touch()


def _sparse(folder: Path) -> None:
    with (folder / "sparse").open("wb") as file:
        file.truncate(10**12)
        for number in range(100):
            file.seek(number * 10**10)
            file.write(os.urandom(MEGABYTE))


def _change_sparse(folder: Path) -> None:
    with (folder / "sparse").open("r+b") as file:
        file.seek(5 * 10**9)
        file.write(os.urandom(MEGABYTE))


DATASETS = {
    made.name: made
    for made in (
        Dataset("small", "59,000 small files of source code, 670 MB at most", _small, _change_files),
        Dataset("libraries", "the Rust toolchain's libraries", _libraries, _change_files),
        Dataset("random", "one file of 1.5 GB, random", _random, _change_random),
        Dataset("database", "one file of 2 GB like a database; 1 % of its pages change", _database, _change_database),
        Dataset("empty", "one folder with 200,000 empty files", _empties, _change_empties),
        Dataset("sparse", "one file of 1 TB with 100 MB of data", _sparse, _change_sparse, sparse=True),
    )
}
