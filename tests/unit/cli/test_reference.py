"""The pages about the commands are those that the commands give."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowtide_engine.cli.reference import FOLDER, files, main

ROOT = Path(__file__).resolve().parents[3]


def test_the_pages_are_up_to_date() -> None:
    assert main(["--check", "--root", str(ROOT)]) == 0


def test_a_stale_a_missing_and_a_stray_page_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path)]) == 0
    (tmp_path / FOLDER / "backup.md").write_text("old")
    (tmp_path / FOLDER / "ls.md").unlink()
    (tmp_path / FOLDER / "teleport.md").write_text("there is no such command")

    assert main(["--check", "--root", str(tmp_path)]) == 1

    told = capsys.readouterr().err
    assert all(name in told for name in ("backup.md", "ls.md", "teleport.md"))


def test_every_option_of_a_command_is_on_its_page() -> None:
    page = files()[FOLDER / "backup.md"]

    for option in ("--exclude-larger-than SIZE", "--one-file-system", "--refuse-empty", "--claim NAME"):
        assert option in page
