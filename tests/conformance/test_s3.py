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


def test_forgetting_and_pruning_in_s3(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_plain_tree(source, large=6 * 1024 * 1024)
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)
    (source / "unique").write_bytes(bytes(range(256)) * 4000)
    restic.backup("source", cwd=tmp_path)
    (source / "unique").unlink()
    lowtide.backup("source", cwd=tmp_path)

    lowtide.run("forget", "--keep-last", "1", "--prune", "--max-unused", "0", "--group-by", "")

    assert len(restic.snapshots()) == 1
    restic.run("check", "--read-data", "--check-unused")
    assert "nothing to do" in lowtide.run("prune", "--max-unused", "0").out
    restic.run("restore", "latest:/source", "--target", tmp_path / "restored")
    expected, actual = describe(source), describe(tmp_path / "restored")
    expected.pop(b"."), actual.pop(b".")
    assert differences(expected, actual) == []
