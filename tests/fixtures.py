"""Repositories that other programs wrote, beside the checkout; a test that needs one skips with a sentence where
they are absent.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "shared" / "fixtures"

PASSWORDS = {"restic": "geheim", "rustic/restic-repo": "restic", "rustic/rustic-copy-repo": "rustic"}


def unpack(name: str, into: Path) -> Path:
    """Unpack `restic/<name>` or `rustic/<name>`; gives the folder of the repository (or of the sources) in it."""
    archive = ROOT / f"{name}.tar.gz"
    if not archive.exists():
        pytest.skip(f"the fixture {name} is not beside the checkout (shared/fixtures)")
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    [top] = [entry for entry in into.iterdir() if entry.is_dir()]
    return top


def password_of(name: str) -> str:
    """The password of a fixture."""
    return PASSWORDS.get(name) or PASSWORDS[name.partition("/")[0]]
