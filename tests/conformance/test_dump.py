"""Files and folders as streams, and listings."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.conformance.actors import Lowtide, Restic
from tests.conformance.quick import make_repository
from tests.conformance.trees import describe, differences, make_full_tree, make_plain_tree

pytestmark = pytest.mark.oracle


def dumped(lowtide: Lowtide, *arguments: str) -> bytes:
    done = subprocess.run(
        [*lowtide.command, "dump", *arguments], env=lowtide.variables(), capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_of_many_chunks_comes_whole(lowtide: Lowtide, tmp_path: Path) -> None:
    make_plain_tree(tmp_path / "source", large=40 * 1024 * 1024)
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)

    assert dumped(lowtide, "latest", "/source/large") == (tmp_path / "source" / "large").read_bytes()
    assert dumped(lowtide, "latest", "/source/empty") == b""
    assert dumped(lowtide, "latest:/source", "zeros") == bytes(3 * 1024 * 1024)


def test_a_folder_is_an_archive_that_brings_everything_back(lowtide: Lowtide, tmp_path: Path, root_only: None) -> None:
    source = tmp_path / "source"
    make_full_tree(source)
    os.utime(source / "empty", ns=(0, 0))
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)

    archive = dumped(lowtide, "latest", "/")

    (tmp_path / "back").mkdir()
    unpack = ["tar", "--xattrs", "--xattrs-include=*", "--same-owner", "-xpf", "-", "-C", str(tmp_path / "back")]
    subprocess.run(unpack, input=archive, check=True, capture_output=True)
    assert differences(describe(source), describe(tmp_path / "back" / "source")) == []


def test_an_archive_by_lowtide_has_the_names_of_one_by_restic(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    make_plain_tree(tmp_path / "source")
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)
    restic.run("dump", "latest", "/", "--target", tmp_path / "theirs.tar")

    with (
        tarfile.open(tmp_path / "theirs.tar") as theirs,
        tarfile.open(fileobj=io.BytesIO(dumped(lowtide, "latest", "/"))) as ours,
    ):
        names = [sorted(member.name.strip("/") for member in archive.getmembers()) for archive in (theirs, ours)]
    assert names[0] == names[1]


def test_a_zip_archive_is_one_that_restic_would_write(
    lowtide: Lowtide, restic: Restic, tmp_path: Path, root_only: None
) -> None:
    source = tmp_path / "source"
    make_full_tree(source)
    os.utime(source / "empty", ns=(0, 0))
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)
    restic.run("dump", "--archive", "zip", "latest", "/", "--target", tmp_path / "theirs.zip")

    ours = io.BytesIO(dumped(lowtide, "--archive", "zip", "latest", "/"))

    with zipfile.ZipFile(tmp_path / "theirs.zip") as theirs, zipfile.ZipFile(ours) as archive:
        assert archive.testzip() is None
        expected = {info.filename: info for info in theirs.infolist() if info.filename.isascii()}
        found = {info.filename: info for info in archive.infolist() if info.filename.isascii()}
        odd = {name for name in found if "\\x" in name}  # a name that is no UTF-8, of which restic makes another text
        assert found.keys() - odd == expected.keys()
        assert len(theirs.infolist()) == len(archive.infolist())
        for name, info in expected.items():
            assert (found[name].external_attr >> 16, found[name].CRC) == (info.external_attr >> 16, info.CRC), name
        assert archive.read("source/large") == (source / "large").read_bytes()


def test_what_is_not_there_is_a_failure_and_no_file_is_overwritten(lowtide: Lowtide, tmp_path: Path) -> None:
    make_plain_tree(tmp_path / "source")
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)
    (tmp_path / "out").write_text("mine")

    lowtide.run("dump", "latest", "/source/none", code=1)
    assert lowtide.result is not None
    assert lowtide.result.reason == "PathMissing"
    lowtide.run("dump", "latest", "/source/large", "--target", tmp_path / "out", code=1)
    assert (tmp_path / "out").read_text() == "mine"


def test_ls_says_what_restic_says(lowtide: Lowtide, restic: Restic, tmp_path: Path, root_only: None) -> None:
    make_full_tree(tmp_path / "source")
    os.utime(tmp_path / "source" / "empty", ns=(0, 0))
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)

    for arguments in (["latest"], ["latest", "/source/folder 1"], ["latest", "/source", "--recursive"]):
        ours, theirs = (
            [json.loads(line) for line in actor.run("ls", "--json", *arguments).out.splitlines()]
            for actor in (lowtide, restic)
        )
        assert {node["path"]: node for node in ours[1:]} == {node["path"]: node for node in theirs[1:]}


@pytest.mark.parametrize("order", ["name", "size", "time", "mtime", "atime", "ctime", "extension"])
def test_ls_sorts_as_restic_does(lowtide: Lowtide, restic: Restic, tmp_path: Path, place: str, order: str) -> None:
    make_repository(place)
    source = tmp_path / "source"
    for number, name in enumerate(["b.txt", "a.tar.gz", "sub/.hidden", "sub/c.txt", "sub/a", "sub/dir.d/x"]):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(bytes(5 * number % 4))
        os.utime(source / name, ns=(7 * number % 5 * 10**9 + 1, 3 * number % 4 * 10**9 + number % 2))
    lowtide.backup("--with-atime", "source", cwd=tmp_path)
    for arguments in ([], ["--reverse"], ["--reverse", "--recursive", "latest", "/source/sub"]):
        ours, theirs = (
            [json.loads(line)["path"] for line in ran.out.splitlines()[1:]]
            for ran in (
                actor.run(
                    "ls", "--json", "--sort", order, *(arguments if "latest" in arguments else [*arguments, "latest"])
                )
                for actor in (lowtide, restic)
            )
        )
        assert ours == theirs
        assert len(ours) > 3


def test_a_check_reads_every_index_file(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    lowtide.run("init")
    for number in range(7):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / str(number)).write_bytes(os.urandom(1000))
        lowtide.backup("source", cwd=tmp_path)

    assert len(restic.list_ids("index")) == 7
    lowtide.run("check", "--read-data")
    for subset in ("1/2", "2/2", "50%", "1M"):
        lowtide.run("check", "--read-data-subset", subset)


def test_a_flipped_bit_is_found_by_reading(lowtide: Lowtide, tmp_path: Path, place: str) -> None:
    make_plain_tree(tmp_path / "source")
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)
    packs = [path for path in (Path(place) / "data").glob("*/*") if path.is_file()]
    largest = max(packs, key=lambda path: path.stat().st_size)
    largest.chmod(0o600)
    with open(largest, "r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))

    lowtide.run("check")
    ran = lowtide.run("check", "--read-data", "--json", code=1)

    assert ran.summary()["broken_packs"] == [largest.name]
    assert largest.name in ran.err


def test_only_what_some_snapshots_need_is_checked(lowtide: Lowtide, restic: Restic, tmp_path: Path, place: str) -> None:
    make_repository(place)
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(os.urandom(100_000))
        lowtide.backup(tmp_path / name, "--host", name)
    large = [path for path in (Path(place) / "data").glob("*/*") if path.stat().st_size > 90_000]
    damaged = max(large, key=lambda path: path.stat().st_mtime_ns)
    damaged.chmod(0o600)
    data = bytearray(damaged.read_bytes())
    data[50] ^= 1
    damaged.write_bytes(data)

    for actor in (restic, lowtide):
        actor.run("check", "--read-data", "--host", "one")
        actor.run("check", "--read-data", "--host", "two", code=1)
        actor.run("check", "--read-data", "latest", code=1)
    for arguments in (["--check-unused", "latest"], ["abcdef"], ["--host", "none"]):
        lowtide.run("check", *arguments, code=1)
