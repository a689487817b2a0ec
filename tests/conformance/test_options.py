"""Options mean what they mean in restic: the same files are left out, brought back, removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.actors import Actor, Lowtide, Restic
from tests.conformance.quick import make_repository, twin
from tests.conformance.trees import describe, differences

pytestmark = pytest.mark.oracle
CACHEDIR_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    files = {
        "a.txt": 10,
        "a.log": 20,
        "B.LOG": 30,
        "big": 3_000_000,
        "deep/one/two/three.txt": 40,
        "deep/one/keep.log": 50,
        "skip/.nobackup": 1,
        "skip/inside": 60,
        "cache/CACHEDIR.TAG": 0,
        "cache/junk": 70,
        "[brackets]/x": 80,
        "star*name": 90,
    }
    for name, size in files.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    (tmp_path / "source" / "cache" / "CACHEDIR.TAG").write_text(CACHEDIR_TAG)
    (tmp_path / "chosen").write_text("# a comment\n*.log\n\n/source/skip\n")
    (tmp_path / "patterns").write_text("# a comment\n\n  *.log  \n$HOME_OF_TEST/one/two\n!keep.log\n")
    return tmp_path / "source"


BACKUP_OPTIONS = {
    "name": ["--exclude", "*.log"],
    "name in any case": ["--iexclude", "*.log"],
    "path from the root": ["--exclude", "{root}/deep/one"],
    "two stars": ["--exclude", "{root}/**/three.txt"],
    "take back": ["--exclude", "*.log", "--exclude", "!keep.log"],
    "brackets": ["--exclude", "[[]brackets]"],
    "escaped star": ["--exclude", "star\\*name"],
    "a file of patterns": ["--exclude-file", "{root}/../patterns"],
    "a file of patterns in any case": ["--iexclude-file", "{root}/../patterns"],
    "larger than": ["--exclude-larger-than", "1M"],
    "if present": ["--exclude-if-present", ".nobackup"],
    "if present with a header that is not there": ["--exclude-if-present", ".nobackup:never"],
    "caches": ["--exclude-caches"],
    "options that change nothing": ["--no-scan", "--cleanup-cache"],
    "several": ["-e", "*.txt", "--exclude-caches", "--exclude-larger-than", "25"],
}


@pytest.mark.parametrize("case", BACKUP_OPTIONS)
def test_the_same_files_are_left_out(case: str, lowtide: Lowtide, restic: Restic, source: Path) -> None:
    lowtide.run("init")
    options = [option.replace("{root}", str(source)) for option in BACKUP_OPTIONS[case]]
    extra = {"HOME_OF_TEST": str(source / "deep")}
    found = []
    actors: list[Actor] = [restic, lowtide]
    for actor in actors:
        actor.environment |= extra
        actor.backup(source, *options)
        found.append({line for line in restic.run("ls", "latest").out.splitlines() if line.startswith("/")})

    assert found[0] == found[1]


RESTORE_OPTIONS = {
    "include": ["--include", "*.log"],
    "include in any case": ["--iinclude", "*.log"],
    "include a path": ["--include", "/source/deep/one"],
    "include what a file says": ["--include-file", "{root}/../chosen"],
    "include what a file says in any case": ["--iinclude-file", "{root}/../chosen"],
    "exclude": ["--exclude", "*.txt"],
    "exclude in any case": ["--iexclude", "*.log"],
    "exclude what a file says": ["--exclude-file", "{root}/../chosen"],
    "exclude what a file says in any case": ["--iexclude-file", "{root}/../chosen"],
    "exclude a path": ["--exclude", "/source/deep"],
    "overwrite always": ["--overwrite", "always"],
    "overwrite never": ["--overwrite", "never"],
    "overwrite if changed": ["--overwrite", "if-changed"],
    "overwrite if newer": ["--overwrite", "if-newer"],
    "owners by name": ["--ownership-by-name"],
    "delete": ["--delete"],
    "delete what is included": ["--delete", "--include", "/source/deep"],
    "delete but for": ["--delete", "--exclude", "*.stray"],
}


@pytest.mark.parametrize("case", RESTORE_OPTIONS)
def test_the_same_files_are_brought_back(
    case: str, lowtide: Lowtide, restic: Restic, source: Path, tmp_path: Path
) -> None:
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)
    options = [option.replace("{root}", str(source)) for option in RESTORE_OPTIONS[case]]
    found = []
    actors: list[Actor] = [restic, lowtide]
    for number, actor in enumerate(actors):
        target = tmp_path / f"target {number}"
        _litter(target / "source", in_the_way=case != "overwrite never")
        actor.run("restore", "latest", "--target", target, *options)
        found.append(describe(target, times_of_folders=False))
        found[-1].pop(b".")

    assert differences(found[0], found[1]) == []


def _litter(folder: Path, *, in_the_way: bool) -> None:
    """What is there before: the same name with other content, older and newer, strays; and a file where a folder
    belongs, which restic replaces even where it is to overwrite nothing, and lowtide does not."""
    (folder / "deep").mkdir(parents=True)
    names = [("a.txt", 1), ("a.log", 4_000_000_000), ("x.stray", 5), ("deep/y.stray", 6)]
    for name, seconds in [*names, ("skip", 7)] if in_the_way else names:
        (folder / name).write_text(f"litter {name}")
        os.utime(folder / name, (seconds, seconds))
    for path in (folder, folder / "deep"):
        os.utime(path, (8, 8))


def test_a_snapshot_can_be_skipped_where_nothing_changed(lowtide: Lowtide, source: Path, tmp_path: Path) -> None:
    lowtide.run("init")
    lowtide.backup("source", "--skip-if-unchanged", cwd=tmp_path)
    lowtide.backup("source", "--skip-if-unchanged", cwd=tmp_path)
    assert lowtide.result is not None
    assert (lowtide.result.reason, lowtide.result.snapshot_ids) == ("Unchanged", [])
    (source / "a.txt").write_text("other")
    lowtide.backup("source", "--skip-if-unchanged", cwd=tmp_path)

    assert len(lowtide.snapshots()) == 2


def test_a_parent_can_be_named_and_force_takes_none(lowtide: Lowtide, source: Path, tmp_path: Path) -> None:
    lowtide.run("init")
    first = lowtide.backup("source", "--host", "a", cwd=tmp_path)["snapshot_id"]
    other = lowtide.backup("source", "--host", "b", cwd=tmp_path)
    assert other["files_new"] == 12

    named = lowtide.backup("source", "--host", "b", "--parent", first[:10], cwd=tmp_path)
    assert named["files_unmodified"] == 12
    forced = lowtide.backup("source", "--host", "b", "--force", cwd=tmp_path)
    assert forced["files_new"] == 12
    assert forced["data_blobs"] == 0
    assert [s.get("parent") for s in lowtide.snapshots()] == [None, None, first, None]


@pytest.mark.parametrize(
    ("options", "read"),
    [((), 2), (("--ignore-ctime",), 1), (("--ignore-inode",), 0), (("--ignore-ctime", "--ignore-inode"), 0)],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_not_read_again(
    options: tuple[str, ...], read: int, lowtide: Lowtide, restic: Restic, tmp_path: Path, place: str
) -> None:
    """Two files get other content of the same size, and their time back: one keeps its inode, the other doesn't."""
    make_repository(place)
    source = tmp_path / "source"
    source.mkdir()
    for name in ("same", "written", "replaced"):
        (source / name).write_text(f"{name:8} before")
        os.utime(source / name, (1, 1))
    lowtide.backup("source", cwd=tmp_path)
    (source / "replaced").rename(tmp_path / "kept, so that its inode stays in use")
    for name in ("written", "replaced"):
        (source / name).write_text(f"{name:8} after!")
        os.utime(source / name, (1, 1))
    for actor in twin(restic, lowtide):
        assert actor.backup("source", *options, cwd=tmp_path)["data_blobs"] == read


@pytest.mark.parametrize("mode", ["off", "fastest", "auto", "better", "max"])
def test_every_compression_is_read_by_restic(mode: str, lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "text").write_bytes(b"the same line again and again\n" * 50_000)
    lowtide.run("init")

    summary = lowtide.backup("source", "--compression", mode, cwd=tmp_path)

    assert (summary["data_added_packed"] > 1_000_000) == (mode == "off")
    restic.run("check", "--read-data")
    assert restic.run("dump", "latest", "/source/text").out == "the same line again and again\n" * 50_000
