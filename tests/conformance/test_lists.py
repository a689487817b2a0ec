"""Targets named by lists are those that restic would back up."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conformance.actors import Actor, Lowtide, Restic
from tests.conformance.quick import make_repository

pytestmark = pytest.mark.oracle

LISTS = {
    "patterns": ("--files-from", b"# a comment\n\n  a*  \nfolder/*.txt\n.hid*\nnone*\r\n[^a]ther\nfold**/deep/x\nb?\n"),
    "a pattern with an escape": ("--files-from", b"star\\*name\n"),
    "a byte order mark": ("--files-from", b"\xef\xbb\xbfa1\n"),
    "verbatim": ("--files-from-verbatim", b"star*name\n\n# no comment\n spaces \na1\n"),
    "raw": ("--files-from-raw", b"new\nline\0a1\0star*name\0"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a1", "a2", "b1", "other", ".hidden", "star*name", "# no comment", " spaces ", "new\nline"):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    for name in ("one.txt", "two.log", "deep/x"):
        path = tmp_path / "source" / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "source"


@pytest.mark.parametrize("case", LISTS)
def test_a_list(case: str, lowtide: Lowtide, restic: Restic, folder: Path, place: str, tmp_path: Path) -> None:
    make_repository(place)
    option, text = LISTS[case]
    (tmp_path / "list").write_bytes(text)
    listed: list[list[str]] = []
    actors: list[Actor] = [restic, lowtide]
    for actor in actors:
        actor.run("backup", option, tmp_path / "list", "folder/two.log", cwd=folder)
        nodes = restic.run("ls", "--json", "latest").messages("node")
        listed.append([node["path"] for node in nodes])

    assert listed[0] == listed[1]
    assert "/folder/two.log" in listed[1]


def test_the_standard_input_is_a_list(lowtide: Lowtide, restic: Restic, folder: Path, place: str) -> None:
    make_repository(place)

    command = [*lowtide.command, "backup", "--files-from-raw", "-"]
    subprocess.run(command, input=b"a1\0a2\0", cwd=folder, env=lowtide.variables(), check=True, timeout=60)

    assert restic.run("ls", "latest").out.splitlines()[1:] == ["/a1", "/a2"]


@pytest.mark.parametrize(
    ("option", "text", "told"),
    [
        ("--files-from", b"# nothing\n", "the lists name nothing"),
        ("--files-from", b"[\n", "is no pattern"),
        ("--files-from-raw", b"a1\0a2", "no zero byte"),
        ("--files-from-raw", b"a1\0\0", "empty name"),
        ("--files-from-verbatim", None, "could not read"),
    ],
)
def test_a_list_that_is_none(
    option: str, text: bytes | None, told: str, lowtide: Lowtide, folder: Path, place: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "list").write_bytes(text)

    ran = lowtide.run("backup", option, tmp_path / "list", cwd=folder, code=1)

    assert told in ran.err
