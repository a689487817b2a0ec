"""What a repair tells of packs that the storage can't give."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lowtide_engine.contract import Outcome
from lowtide_engine.errors import FileUnreadable
from lowtide_engine.storage import File
from lowtide_engine.storage.local import LocalStorage
from tests.conformance.actors import PASSWORD
from tests.unit.cli.conftest import Run


def test_an_index_that_lacks_what_could_not_be_read_is_no_success(
    lowtide: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(1000))
    lowtide("backup", tmp_path / "file")
    pack = next((tmp_path / "repository" / "data").glob("*/*")).name
    shutil.rmtree(tmp_path / "repository" / "index")
    load = LocalStorage.load

    def fail(storage: LocalStorage, file: File, offset: int = 0, length: int | None = None) -> bytes:
        if file.name == pack:
            raise FileUnreadable("Input/output error", retryable=False)
        return load(storage, file, offset, length)

    monkeypatch.setattr(LocalStorage, "load", fail)
    monkeypatch.setenv("RESTIC_PASSWORD", PASSWORD)  # a command takes it out of its environment
    result = lowtide("repair", "index")

    assert (result.outcome, result.reason) == (Outcome.FAILED, "FileUnreadable")
    assert [pack in warning for warning in result.warnings] == [True]
    assert "1 packs could not be read: run it again" in capsys.readouterr().err
