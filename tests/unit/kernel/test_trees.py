"""Trees: what restic wrote is written again byte for byte, and read as it was meant."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lowtide_engine import _kernel as kernel
from tests import programs
from tests.unit.kernel.plain_repository import PlainRepository, unpack

FIXTURES = [
    "repo-data-missing",
    "repo-duplicates",
    "repo-index-missing",
    "repo-index-missing-blob",
    "repo-layout-default",
    "repo-obsolete-index",
    "repo-restore-permissions-test",
    "repo-unreferenced-data",
    "repo-unused-data-missing",
    "small-repo",
]


def trees(repository: PlainRepository) -> Iterator[tuple[str, bytes]]:
    """The id and the bytes of each tree blob that can be read."""
    index = repository.index()
    for pack in index.packs():
        if not repository.pack(pack).exists():
            continue
        data = repository.pack(pack).read_bytes()
        for entry in index.pack_entries(pack):
            sealed = data[entry.offset : entry.offset + entry.length]
            if entry.kind == "tree" and len(sealed) == entry.length:
                yield entry.blob, kernel.open_blob(repository.key, sealed, entry.blob, entry.uncompressed_length)


@pytest.mark.parametrize("name", FIXTURES)
def test_every_tree_of_the_fixtures_is_written_again_byte_for_byte(name: str, tmp_path: Path) -> None:
    repository = PlainRepository(unpack(f"restic/{name}.tar.gz", tmp_path), "geheim")
    found = dict(trees(repository))
    assert found
    for blob, tree in found.items():
        assert kernel.reencode_tree(tree) == tree, blob
        assert kernel.sha256(kernel.reencode_tree(tree)) == blob


def test_a_link_target_that_was_stored_lossily_shows_that_the_bytes_differ(tmp_path: Path) -> None:
    """restic before 0.16 lost such targets; who rewrites a tree must see it and keep the old bytes."""
    repository = PlainRepository(unpack("restic/copy-unstable-json.tar.gz", tmp_path), "geheim")
    changed = [tree for _, tree in trees(repository) if kernel.reencode_tree(tree) != tree]
    assert len(changed) == 1
    (link,) = kernel.decode_tree(changed[0])
    assert (link.type, "\ufffd" in link.linktarget.decode()) == ("symlink", True)


def test_every_tree_of_the_rustic_fixture_is_written_again_byte_for_byte(tmp_path: Path) -> None:
    repository = PlainRepository(unpack("rustic/restic-repo.tar.gz", tmp_path), "restic")
    found = dict(trees(repository))
    assert len(found) == 9
    for blob, tree in found.items():
        assert kernel.reencode_tree(tree) == tree, blob


NAMES = [
    b"plain",
    b"control \x01\x07\x08\t\n\x0b\x0c\r\x1b\x7f",
    b"invalid \xff\xfe\xc3",
    b"truncated \xe2\x82",
    b"surrogate \xed\xa0\x80",
    "nbsp\u00a0zwsp\u200b soft\u00ad".encode(),
    "lines\u2028\u2029".encode(),
    b'html <>& "quoted" \\ back',
    "äöü 漢字 \U0001f600 \U000e0001 \ufffd \ufeff e\u0301".encode(),
    b"c1 \xc2\x80\xc2\x9f",
    b"\xf4\x90\x80\x80 beyond",
]


def make_tree(root: Path) -> None:
    """Files, folders and links of all sorts with hostile names, times with all kinds of fractions."""
    root.mkdir()
    folder = os.fsencode(root)
    for number, name in enumerate(NAMES):
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(name * number)
        nanoseconds = [0, 1, 10, 120_034_000, 500_000_000, 999_999_999, 123_456_789][number % 7]
        when = [0, 1_600_000_000, -1, 4_102_444_800, 951_782_400][number % 5] * 10**9 + nanoseconds
        os.utime(path, ns=(when, when))
        os.symlink(name, os.path.join(folder, b"link to " + name))
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "sub" / "sticky").mkdir()
    (root / "sub" / "sticky").chmod(0o1777)
    (root / "sub" / "setuid").write_bytes(b"#!")
    (root / "sub" / "setuid").chmod(0o6755)
    os.link(root / "plain", root / "sub" / "hard link")
    os.mkfifo(root / "sub" / "fifo")
    os.setxattr(root / "plain", "user.binary", bytes(range(256)))
    os.setxattr(root / "plain", "user.empty", b"")
    os.setxattr(root / "plain", "user.ä<&>", b"x")
    with socket.socket(socket.AF_UNIX) as server:
        before = os.getcwd()
        os.chdir(root / "sub")
        try:
            server.bind("socket")
        finally:
            os.chdir(before)
    if os.geteuid() == 0:
        os.mknod(root / "sub" / "null", 0o020666, os.makedev(1, 3))
        os.chown(root / "plain", 4_000_000_000, 12345)


@pytest.mark.oracle
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
def test_trees_of_the_restic_program_are_written_again_byte_for_byte(zone: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_tree(source)
    environment = {
        **os.environ,
        "RESTIC_REPOSITORY": str(tmp_path / "repository"),
        "RESTIC_PASSWORD": "geheim",
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
        "TZ": zone,
    }
    restic = str(programs.program("restic"))
    for arguments in (["init"], ["backup", str(source), "--with-atime"]):
        subprocess.run([restic, "-q", *arguments], env=environment, check=True, capture_output=True, timeout=300)
    repository = PlainRepository(tmp_path / "repository", "geheim")
    nodes: dict[bytes, kernel.Node] = {}
    for blob, tree in trees(repository):
        assert kernel.reencode_tree(tree) == tree, tree
        assert kernel.sha256(tree) == blob
        nodes |= {node.name: node for node in kernel.decode_tree(tree)}
    assert set(NAMES) <= nodes.keys()
    for name in [*NAMES, *(b"link to " + name for name in NAMES)]:
        stat = os.lstat(os.path.join(os.fsencode(source), name))
        node = nodes[name]
        assert (node.mtime[0] * 10**9 + node.mtime[1], node.inode) == (stat.st_mtime_ns, stat.st_ino)
        assert (node.uid, node.gid, node.permissions) == (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777)
        assert node.linktarget == (name.removeprefix(b"link to ") if node.type == "symlink" else b"")
    assert dict(nodes[b"plain"].extended_attributes) == {
        "user.binary": bytes(range(256)),
        "user.empty": b"",
        "user.ä<&>": b"x",
    }
    assert (nodes[b"setuid"].permissions, nodes[b"sticky"].permissions) == (0o6755, 0o1777)


def node(name: str) -> bytes:
    return b'{"name":"' + name.encode() + b'","type":"file","content":[]}'


def test_a_tree_is_built_from_raw_nodes_in_strictly_ascending_order() -> None:
    tree = kernel.encode_tree([(b"a", node("a")), (b"b", node("b"))])
    assert tree == b'{"nodes":[' + node("a") + b"," + node("b") + b"]}\n"
    assert [n.name for n in kernel.decode_tree(tree)] == [b"a", b"b"]
    for names in ("ba", "aa"):
        with pytest.raises(kernel.KernelError, match="ascend"):
            kernel.encode_tree([(name.encode(), node(name)) for name in names])
    assert kernel.encode_tree([]) == b'{"nodes":[]}\n'


def test_what_is_no_tree_is_refused_with_the_place() -> None:
    for damaged in (b"", b"null", b'{"nodes":null}', b'{"nodes":[{"name":"a"}', b'{"nodes":[{"name":"\\\\q"}]}'):
        with pytest.raises(kernel.KernelError, match="at byte"):
            kernel.decode_tree(damaged)


def test_patterns_mean_what_they_mean_to_restic() -> None:
    excludes = kernel.Patterns([b"*.log", b"!keep.log", b"/var/**/cache"])
    assert len(excludes) == 3
    assert excludes.matches(b"/a/b.log")
    assert not excludes.matches(b"/a/keep.log")
    assert excludes.matches(b"/var/lib/x/cache/file")
    assert kernel.Patterns([b"*.TXT"], ignore_case=True).matches(b"/A/b.txt")
    includes = kernel.Patterns([b"/srv/data/*.db"])
    assert includes.verdict(b"/srv") == (False, True)
    assert includes.verdict(b"/srv/data/x.db") == (True, True)
    assert includes.verdict(b"/etc") == (False, False)
    with pytest.raises(kernel.KernelError, match="a/\\[b"):
        kernel.Patterns([b"a/[b"])
