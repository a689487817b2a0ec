"""The main flow in an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import s3
from tests.conformance.actors import Lowtide, Restic
from tests.conformance.trees import describe, differences, make_plain_tree

pytestmark = [pytest.mark.oracle, pytest.mark.s3]


@pytest.fixture
def place() -> Iterator[str]:
    with s3.s3_server() as server:
        _environment.update(server.environment)
        yield server.repository("some/prefix")


_environment: dict[str, str] = {}


@pytest.fixture
def restic(restic: Restic) -> Restic:
    restic.environment |= _environment
    return restic


@pytest.fixture
def lowtide(lowtide: Lowtide) -> Lowtide:
    lowtide.environment |= _environment
    return lowtide


def test_a_repository_in_s3_goes_both_ways(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_plain_tree(source, large=20 * 1024 * 1024)
    lowtide.run("preflight", "--init")

    first = lowtide.backup("source", cwd=tmp_path)
    second = restic.backup("source", cwd=tmp_path)
    assert second["data_blobs"] == 0
    assert lowtide.backup("source", cwd=tmp_path)["data_blobs"] == 0
    restic.run("check", "--read-data")
    lowtide.run("check", "--read-data")

    for actor, name in ((restic, "by restic"), (lowtide, "by lowtide")):
        actor.run("restore", f"{first['snapshot_id']}:/source", "--target", tmp_path / name)
        expected, actual = describe(source), describe(tmp_path / name)
        expected.pop(b"."), actual.pop(b".")
        assert differences(expected, actual) == []


def test_wrong_credentials_say_so(lowtide: Lowtide) -> None:
    lowtide.run("init")

    ran = lowtide.run("snapshots", code=None, extra={"AWS_SECRET_ACCESS_KEY": "wrong"})

    assert ran.code == 1
    assert lowtide.result is not None
    assert lowtide.result.reason == "StorageRefused"
    assert "wrong" not in ran.err
