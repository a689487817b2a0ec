"""A restic program, a lowtide program, and a repository for both."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lowtide_engine.contract import RESULT_FILE_VARIABLE
from tests.conformance.actors import Lowtide, Restic, lowtide_command
from tests.programs import program

CHECKOUT = Path(__file__).resolve().parents[2]
FIXTURES = CHECKOUT.parent / "shared" / "fixtures"


@pytest.fixture(scope="session")
def restic_program() -> str:
    return str(program("restic"))


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Where the repository of both programs is."""
    return str(tmp_path / "repository")


@pytest.fixture
def restic(restic_program: str, place: str, tmp_path: Path) -> Restic:
    return Restic([restic_program], place, {"RESTIC_CACHE_DIR": str(tmp_path / "cache of restic")})


@pytest.fixture
def lowtide(place: str, tmp_path: Path) -> Lowtide:
    environment = {
        "RESTIC_CACHE_DIR": str(tmp_path / "cache of lowtide"),
        RESULT_FILE_VARIABLE: str(tmp_path / "result.json"),
    }
    return Lowtide(lowtide_command(), place, environment)


@pytest.fixture
def root_only() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make devices, owners and file capabilities")


@pytest.fixture
def fixture(tmp_path: Path) -> Callable[[str], Path]:
    """Unpack a fixture by its name, like `restic/small-repo`, and give the folder that it was unpacked into."""

    def unpack(name: str) -> Path:
        archive = FIXTURES / f"{name}.tar.gz"
        if not archive.exists():
            pytest.skip(f"the fixture {name} is missing: fixtures are in shared/fixtures beside the checkout")
        target = tmp_path / "fixtures" / name
        target.mkdir(parents=True)
        with tarfile.open(archive) as tar:
            tar.extractall(target, filter="fully_trusted")
        return target

    return unpack
