"""Restore: what restic backed up comes back, over whatever is there, and says what it did."""

from __future__ import annotations

import base64
import os
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from lowtide_engine import _kernel as kernel
from tests import programs
from tests.unit.kernel.plain_repository import PlainRepository, unpack
from tests.unit.kernel.runs import Made, Outcome, drive, folder, link, node, reader_of
from tests.unit.kernel.test_trees import make_tree

MIB = 1 << 20


def restore(repository: PlainRepository, target: Path, snapshot: int = -1, **options: object) -> Outcome:
    tree = str(repository.snapshots()[snapshot]["tree"])
    options.setdefault("verbose", True)
    run = kernel.Restore(repository.key, repository.index(), tree=tree, target=bytes(target), **options)  # type: ignore[arg-type]
    return drive(run, reader_of(repository.folder))


def described(path: bytes, *, inode_groups: dict[int, list[bytes]], top: bytes) -> tuple[object, ...]:
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    content: object = None
    if stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            content = kernel.sha256(file.read())
        if found.st_nlink > 1:
            inode_groups.setdefault(found.st_ino, []).append(path.removeprefix(top))
    elif stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    mode = 0 if stat.S_ISLNK(found.st_mode) else stat.S_IMODE(found.st_mode)
    return kind, mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_rdev, content, sorted(xattrs.items())


def everything(top: Path, *, sockets: bool = True) -> tuple[dict[bytes, tuple[object, ...]], list[list[bytes]]]:
    """All that restore must bring back of what is below a folder, and the groups of hard links."""
    groups: dict[int, list[bytes]] = {}
    found = {}
    for path, folders, files in os.walk(os.fsencode(top)):
        for name in folders + files:
            full = os.path.join(path, name)
            if not sockets and stat.S_ISSOCK(os.lstat(full).st_mode):
                continue
            found[full.removeprefix(os.fsencode(top))] = described(full, inode_groups=groups, top=os.fsencode(top))
    return found, sorted(sorted(group) for group in groups.values())


@pytest.mark.parametrize("name", ["small-repo", "repo-layout-default", "repo-duplicates", "repo-unreferenced-data"])
def test_fixtures_are_restored_without_an_error(name: str, tmp_path: Path) -> None:
    repository = PlainRepository(unpack(f"restic/{name}.tar.gz", tmp_path / "in"), "geheim")
    outcome = restore(repository, tmp_path / "out", owner=os.geteuid() == 0, verify=True)
    assert outcome.faults() == []
    assert outcome.summary["files_restored"] == sum(1 for _, action in outcome.done if action == "restored") > 0


def test_every_file_comes_back_though_its_folder_is_not_writable(tmp_path: Path) -> None:
    repository = PlainRepository(unpack("restic/repo-restore-permissions-test.tar.gz", tmp_path / "in"), "geheim")
    for _ in range(2):
        outcome = restore(repository, tmp_path / "out", owner=False)
        assert outcome.faults() == []
        assert outcome.summary["files_restored"] + outcome.summary["files_skipped"] > 0
        for path, _, _ in os.walk(tmp_path / "out"):
            os.chmod(path, os.stat(path).st_mode | 0o700)


def test_the_rustic_fixture_is_what_its_source_was(tmp_path: Path) -> None:
    repository = PlainRepository(unpack("rustic/restic-repo.tar.gz", tmp_path / "in"), "restic")
    outcome = restore(repository, tmp_path / "out", verify=True, owner=os.geteuid() == 0)
    assert outcome.faults() == []
    assert outcome.summary["bytes_restored"] > 0
    again = restore(repository, tmp_path / "out", owner=os.geteuid() == 0)
    assert again.summary["files_restored"] == 0
    assert set(again.actions().values()) <= {"unchanged", "updated", "folder"}


@pytest.fixture(name="oracle")
def _oracle(tmp_path: Path) -> tuple[Path, PlainRepository, dict[str, str]]:
    """A source folder with everything in it, backed up by the restic program."""
    source = tmp_path / "source"
    make_tree(source)
    big = os.urandom(3 * MIB) + bytes(5 * MIB) + os.urandom(2 * MIB)
    (source / "big").write_bytes(big)
    with (source / "sparse").open("wb") as file:
        file.truncate(64 * MIB)
        file.seek(40 * MIB)
        file.write(os.urandom(MIB))
    (source / "sub" / "copy of big").write_bytes(big)
    (source / "sub" / "empty file").touch()
    environment = {
        **os.environ,
        "RESTIC_REPOSITORY": str(tmp_path / "repository"),
        "RESTIC_PASSWORD": "geheim",
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
    }
    restic = str(programs.program("restic"))
    for arguments in (["init"], ["backup", str(source)]):
        subprocess.run([restic, "-q", *arguments], env=environment, check=True, capture_output=True, timeout=300)
    return source, PlainRepository(tmp_path / "repository", "geheim"), environment


@pytest.mark.oracle
def test_all_that_restic_backed_up_comes_back(
    oracle: tuple[Path, PlainRepository, dict[str, str]], tmp_path: Path
) -> None:
    source, repository, _ = oracle
    outcome = restore(repository, tmp_path / "out", subfolder=bytes(source), root_metadata=True, verify=True)
    assert outcome.faults() == []
    assert everything(tmp_path / "out") == everything(source, sockets=False)
    assert os.stat(tmp_path / "out").st_mtime_ns == os.stat(source).st_mtime_ns
    assert (tmp_path / "out" / "sparse").stat().st_blocks * 512 < 4 * MIB
    assert (tmp_path / "out" / "big").stat().st_blocks * 512 < 8 * MIB
    # Each blob that two files need was asked for once.
    asked = sum(length for _, _, length in outcome.fetched)
    assert asked < 9 * MIB
    assert len(outcome.fetched) < 40


@pytest.mark.oracle
@pytest.mark.parametrize("sparse", [True, False])
def test_what_is_there_is_changed_only_where_it_differs(
    oracle: tuple[Path, PlainRepository, dict[str, str]], tmp_path: Path, sparse: bool
) -> None:
    source, repository, _ = oracle
    out = tmp_path / "out"
    restore(repository, out, subfolder=bytes(source))
    wanted = everything(out)
    assert restore(repository, out, subfolder=bytes(source)).summary["bytes_restored"] == 0

    with (out / "big").open("r+b") as file:
        file.seek(100)
        file.write(b"damage")
        file.seek(4 * MIB)
        file.write(b"damage in zeros")
    with (out / "sub" / "copy of big").open("ab") as file:
        file.write(b"and more")
    os.truncate(out / "sparse", 1000)
    os.unlink(out / "sub" / "fifo")
    os.symlink("/etc", out / "sub" / "fifo")
    os.unlink(out / "sub" / "hard link")
    (out / "sub" / "hard link").write_bytes(b"no link")
    os.setxattr(out / "big", "user.stray", b"x")
    (out / "sub" / "sticky").chmod(0o700)
    inode = (out / "big").stat().st_ino
    outcome = restore(repository, out, subfolder=bytes(source), sparse=sparse, verify=True)
    assert outcome.faults() == []
    assert everything(out) == wanted
    assert (out / "big").stat().st_ino == inode
    actions = outcome.actions()
    assert actions[bytes(out / "big")] == actions[bytes(out / "sparse")] == "updated"
    assert outcome.summary["bytes_restored"] < 75 * MIB


@pytest.mark.oracle
def test_the_restic_program_restores_the_same(
    oracle: tuple[Path, PlainRepository, dict[str, str]], tmp_path: Path
) -> None:
    source, repository, environment = oracle
    restic = str(programs.program("restic"))
    command = [restic, "-q", "restore", f"latest:{source}", "--target", str(tmp_path / "theirs"), "--include", "s*"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    outcome = restore(repository, tmp_path / "ours", subfolder=bytes(source), includes=[b"s*"])
    assert outcome.faults() == []
    assert everything(tmp_path / "ours") == everything(tmp_path / "theirs")


def snapshot(made: Made) -> str:
    """/keep.txt, /a/one.log, /a/two.txt, /a/deep/three.log"""
    deep = made.tree(made.file("three.log", b"three"))
    a = made.tree(folder("deep", deep), made.file("one.log", b"one"), made.file("two.txt", b"two"))
    return made.tree(folder("a", a), made.file("keep.txt", b"keep"))


def files(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}


def test_patterns_choose_what_is_restored(tmp_path: Path) -> None:
    made = Made()
    tree = snapshot(made)
    made.restore(tree, tmp_path / "1", includes=[b"*.log"])
    assert set(files(tmp_path / "1")) == {"a/one.log", "a/deep/three.log"}
    made.restore(tree, tmp_path / "2", excludes=[b"/a/deep"], iexcludes=[b"*.LOG"])
    assert set(files(tmp_path / "2")) == {"a/two.txt", "keep.txt"}
    made.restore(tree, tmp_path / "3", includes=[b"/a"], excludes=[b"three*"])
    assert set(files(tmp_path / "3")) == {"a/one.log", "a/two.txt"}
    made.restore(tree, tmp_path / "4", subfolder=b"/a/deep", includes=[b"/three.log"])
    assert files(tmp_path / "4") == {"three.log": b"three"}
    made.restore(tree, tmp_path / "5", includes=[b"nothing"])
    assert list((tmp_path / "5").iterdir()) == []


def test_a_missing_subfolder_ends_the_run(tmp_path: Path) -> None:
    made = Made()
    tree = snapshot(made)
    for missing in (b"/b", b"/keep.txt", b"/a/../a"):
        with pytest.raises(kernel.KernelError, match="folder"):
            made.restore(tree, tmp_path, subfolder=missing)


@pytest.mark.parametrize("mode", ["always", "if-changed", "if-newer", "never"])
def test_overwrite_modes(mode: str, tmp_path: Path) -> None:
    made = Made()
    when = {"mtime": "2020-01-01T00:00:00Z"}
    names = ["equal", "newer", "older", "same time and size"]
    tree = made.tree(*(made.file(name, b"new " + name.encode(), **when) for name in names), link("z", "new", **when))
    at = 1577836800
    for name, content, offset in [
        ("equal", b"new equal", 0),
        ("newer", b"newer than it", 10),
        ("older", b"older than it", -10),
        ("same time and size", b"xxx same time and size", 0),
    ]:
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (at + offset, at + offset))
    os.symlink("old", tmp_path / "z")
    os.utime(tmp_path / "z", (at + 5, at + 5), follow_symlinks=False)
    outcome = made.restore(tree, tmp_path, overwrite=mode)
    assert outcome.faults() == []
    actions = {os.path.basename(path).decode(): action for path, action in outcome.done}
    kept = (tmp_path / "same time and size").read_bytes() == b"xxx same time and size"
    expected = {
        "always": ["unchanged", "updated", "updated", "updated", "updated"],
        "if-changed": ["unchanged", "updated", "updated", "unchanged", "updated"],
        "if-newer": ["skipped", "skipped", "updated", "skipped", "skipped"],
        "never": ["skipped", "skipped", "skipped", "skipped", "skipped"],
    }[mode]
    assert [actions[name] for name in [*names, "z"]] == expected
    assert kept == (mode != "always")
    assert os.readlink(tmp_path / "z") == ("new" if mode in ("always", "if-changed") else "old")


def test_never_keeps_a_file_that_is_in_a_folders_way(tmp_path: Path) -> None:
    made = Made()
    (tmp_path / "a").write_bytes(b"precious")
    outcome = made.restore(snapshot(made), tmp_path, overwrite="never")
    assert outcome.faults() == [(bytes(tmp_path / "a"), "restore")]
    assert (tmp_path / "a").read_bytes() == b"precious"
    assert (tmp_path / "keep.txt").read_bytes() == b"keep"
    assert made.restore(snapshot(made), tmp_path).faults() == []
    assert (tmp_path / "a" / "two.txt").read_bytes() == b"two"


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    made = Made()
    tree = snapshot(made)
    outcome = made.restore(tree, tmp_path / "missing", dry_run=True)
    assert not (tmp_path / "missing").exists()
    assert (outcome.summary["files_restored"], outcome.summary["bytes_restored"]) == (4, 15)
    target = tmp_path / "there"
    made.restore(tree, target)
    (target / "a" / "stray").write_bytes(b"stray")
    (target / "keep.txt").write_bytes(b"changed")
    before = everything(target)
    outcome = made.restore(tree, target, dry_run=True, delete=True)
    assert everything(target) == before
    actions = {path.removeprefix(bytes(target) + b"/"): action for path, action in outcome.done if action != "folder"}
    assert actions == {
        b"a/deep/three.log": "unchanged",
        b"a/one.log": "unchanged",
        b"a/two.txt": "unchanged",
        b"keep.txt": "updated",
        b"a/stray": "deleted",
    }


def test_delete_removes_what_the_snapshot_lacks_and_nothing_else(tmp_path: Path) -> None:
    made = Made()
    tree = snapshot(made)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x")
    target = tmp_path / "target"
    made.restore(tree, target)
    wanted = everything(target)
    (target / "a" / "stray").mkdir()
    (target / "a" / "stray" / "file").write_bytes(b"x")
    os.symlink(outside, target / "a" / "stray" / "link")
    os.symlink(outside, target / "zlink")
    (target / "kept.log").write_bytes(b"x")
    outcome = made.restore(tree, target, delete=True, excludes=[b"*.log"])
    assert outcome.faults() == []
    assert outcome.summary["files_deleted"] == 4
    assert (outside / "precious").exists()
    assert (target / "kept.log").exists()
    os.unlink(target / "kept.log")
    assert everything(target) == wanted


def test_a_full_folder_in_a_files_way_goes_only_with_delete(tmp_path: Path) -> None:
    made = Made()
    tree = snapshot(made)
    (tmp_path / "keep.txt" / "inside").mkdir(parents=True)
    outcome = made.restore(tree, tmp_path)
    assert outcome.faults() == [(bytes(tmp_path / "keep.txt"), "write")]
    assert (tmp_path / "keep.txt" / "inside").is_dir()
    outcome = made.restore(tree, tmp_path, delete=True)
    assert outcome.faults() == []
    assert {path.name for path in tmp_path.iterdir()} == {"a", "keep.txt"}
    assert (tmp_path / "keep.txt").read_bytes() == b"keep"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_owners_by_number_by_name_and_not_at_all(tmp_path: Path) -> None:
    made = Made()
    ours = {"uid": 12345, "gid": 54321, "user": "root", "group": "no such group here"}
    tree = made.tree(made.file("f", b"x", mode=0o755 | 1 << 23, **ours), link("l", "t", **ours))
    for target, options, owner in [
        ("number", {}, (12345, 54321)),
        ("name", {"numeric_owner": False}, (0, 54321)),
        ("none", {"owner": False}, (0, 0)),
    ]:
        outcome = made.restore(tree, tmp_path / target, **options)
        assert outcome.faults() == []
        for name in ("f", "l"):
            found = os.lstat(tmp_path / target / name)
            assert (found.st_uid, found.st_gid) == owner, target
        set_id = (tmp_path / target / "f").stat().st_mode & stat.S_ISUID
        assert bool(set_id) == (target != "none")
        assert [e.during for e in outcome.errors] == ([] if set_id else ["mode"])


def test_times_have_nanoseconds_and_may_be_before_1970(tmp_path: Path) -> None:
    made = Made()
    tree = made.tree(
        made.file("old", b"x", mtime="1905-05-05T05:05:05.123456789Z"),
        folder("sub", made.tree(), mtime="2021-06-07T08:09:10.000000001+02:00"),
    )
    assert made.restore(tree, tmp_path).faults() == []
    assert (tmp_path / "sub").stat().st_mtime_ns == 1623046150000000001
    assert (tmp_path / "old").stat().st_mtime_ns % 10**9 in (123456789, 0)


def test_compressed_blobs_and_blobs_in_many_files(tmp_path: Path) -> None:
    made = Made()
    block = b"0123456789abcdef" * 4096
    tree = made.tree(*(made.file(f"{n:04}", block, bytes([n % 7]) * 100, block, compress=True) for n in range(300)))
    outcome = made.restore(tree, tmp_path, verify=True)
    assert outcome.faults() == []
    for n in range(300):
        assert (tmp_path / f"{n:04}").read_bytes() == block + bytes([n % 7]) * 100 + block
    assert outcome.summary["files_restored"] == 300
    assert node("x", "file")["uid"] == os.geteuid()


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An ACL as the kernel has it in `system.posix_acl_*`: tag, permissions, id."""
    return b"\x02\0\0\0" + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ANYONE = 0xFFFFFFFF
READER = acl((1, 6, ANYONE), (2, 4, 4711), (4, 4, ANYONE), (16, 6, ANYONE), (32, 0, ANYONE))


def attributes(**values: bytes) -> dict[str, object]:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return {
        "extended_attributes": [
            {"name": name, "value": base64.b64encode(value).decode()} for name, value in named.items()
        ]
    }


def test_access_lists_come_back_and_inherited_ones_do_not_stay(tmp_path: Path) -> None:
    made = Made()
    access, default = "system.posix_acl_access", "system.posix_acl_default"
    try:
        os.setxattr(tmp_path, default, READER)
    except OSError:
        pytest.skip("the file system has no access lists")
    sub = made.tree(made.file("plain", b"x"))
    tree = made.tree(
        folder("d", sub, **attributes(system__posix_acl_default=READER)),
        made.file("f", b"x", **attributes(system__posix_acl_access=READER), mode=0o660),
        made.file("plain", b"x", mode=0o640),
    )
    for _ in range(2):
        assert made.restore(tree, tmp_path).faults() == []
        assert os.getxattr(tmp_path / "d", default) == READER
        assert os.getxattr(tmp_path / "f", access) == READER
        assert (tmp_path / "f").stat().st_mode & 0o777 == 0o660
        for plain in (tmp_path / "plain", tmp_path / "d" / "plain"):
            assert access not in os.listxattr(plain)
        assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o640
        assert access not in os.listxattr(tmp_path / "d")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to set capabilities")
def test_capabilities_survive_the_change_of_owner(tmp_path: Path) -> None:
    made = Made()
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    more = attributes(security__capability=capability, trusted__x=b"1")
    tree = made.tree(made.file("ping", b"x", uid=12345, mode=0o755, **more))
    assert made.restore(tree, tmp_path).faults() == []
    assert os.getxattr(tmp_path / "ping", "security.capability") == capability
    assert os.getxattr(tmp_path / "ping", "trusted.x") == b"1"
    assert (tmp_path / "ping").stat().st_uid == 12345


def test_an_attribute_that_the_file_system_cannot_hold_is_a_notice(tmp_path: Path) -> None:
    made = Made()
    tree = made.tree(made.file("f", b"x", **attributes(os2__odd=b"1", user__fine=b"2")))
    outcome = made.restore(tree, tmp_path)
    assert [(e.during, e.notice) for e in outcome.errors] == [("xattr", True)]
    assert os.getxattr(tmp_path / "f", "user.fine") == b"2"
