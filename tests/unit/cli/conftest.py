"""The program, in the process of the test."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lowtide_engine.cli.root import root_command
from tests.conformance.actors import PASSWORD
from tests.conformance.quick import make_repository

Run = Callable[..., Any]


@pytest.fixture
def lowtide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The program, in this process, on a new repository."""
    make_repository(tmp_path / "repository")
    for name in [name for name in os.environ if name.startswith(("RESTIC_", "LOWTIDE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RESTIC_REPOSITORY", str(tmp_path / "repository"))
    monkeypatch.setenv("RESTIC_PASSWORD", PASSWORD)
    return lambda *arguments: root_command().main([*map(str, arguments), "--no-cache"], standalone_mode=False)
