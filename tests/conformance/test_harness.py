"""The comparer and the oracle themselves: a comparer that sees nothing would make every other test here pass."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.actors import Restic
from tests.conformance.trees import describe, differences, make_full_tree, make_plain_tree

pytestmark = pytest.mark.oracle


def _touch_content(root: Path) -> None:
    with open(root / "large", "r+b") as file:
        info = os.fstat(file.fileno())
        file.seek(1000)
        file.write(b"x")
    os.utime(root / "large", ns=(info.st_atime_ns, info.st_mtime_ns))


def _unlink_hard_link(root: Path) -> None:
    info = (root / "hard 2").lstat()
    content = (root / "hard 2").read_bytes()
    (root / "hard 2").unlink()
    (root / "hard 2").write_bytes(content)
    os.utime(root / "hard 2", ns=(info.st_atime_ns, info.st_mtime_ns))


CHANGES = {
    "content": (_touch_content, "digest"),
    "time": (lambda root: os.utime(root / "folder 2", ns=(0, 5)), "mtime_ns"),
    "mode": (lambda root: os.chmod(root / "setuid", 0o755), "mode"),
    "owner": (lambda root: os.chown(root / "setgid", 1, 1), "owner"),
    "extended attribute": (lambda root: os.setxattr(root / "large", "user.colour", b"red"), "xattrs"),
    "acl": (lambda root: os.removexattr(root / "folder 1", "system.posix_acl_default"), "xattrs"),
    "lost hard link": (_unlink_hard_link, "same_file_as"),
    "missing": (lambda root: (root / "fifo").unlink(), "missing"),
    "too many": (lambda root: (root / "stray").touch(), "too many"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_comparer_sees(change: str, tmp_path: Path, root_only: None) -> None:
    make_full_tree(tmp_path / "source")
    before = describe(tmp_path / "source")
    make, word = CHANGES[change]

    make(tmp_path / "source")

    assert any(word in line for line in differences(before, describe(tmp_path / "source")))


def test_restic_brings_the_full_tree_back_by_its_own_hand(restic: Restic, tmp_path: Path, root_only: None) -> None:
    source = tmp_path / "source"
    make_full_tree(source)
    restic.run("init")
    restic.backup("source", cwd=tmp_path)

    restic.run("restore", "latest", "--target", tmp_path / "target", "--sparse")

    assert differences(describe(source), describe(tmp_path / "target" / "source")) == []


def test_a_plain_tree_needs_no_privileges(tmp_path: Path) -> None:
    make_plain_tree(tmp_path / "one")
    make_plain_tree(tmp_path / "two")

    one, two = (describe(tmp_path / name) for name in ("one", "two"))

    assert {path: entry.digest for path, entry in one.items()} == {path: entry.digest for path, entry in two.items()}
