"""Restore against repositories and targets that mean harm, and storages that fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lowtide_engine import _kernel as kernel
from tests.unit.kernel.runs import Made, drive, folder, link, node

BAD_NAMES = ["", ".", "..", "a/b", "/", "../../escaped", "/etc/escaped", "nul\\x00byte"]


@pytest.fixture(name="target")
def _target(tmp_path: Path) -> Path:
    """A target next to a folder that nothing may touch."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_bytes(b"precious")
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def untouched(target: Path) -> bool:
    outside = target.parent / "outside"
    return {p.name for p in outside.iterdir()} == {"precious"} and (
        (outside / "precious").read_bytes(),
        (outside / "precious").stat().st_nlink,
        (outside / "precious").stat().st_mode & 0o7777,
    ) == (b"precious", 1, 0o644)


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["file", "dir", "symlink"])
def test_a_bad_name_is_refused_and_switches_deletion_off(name: str, kind: str, target: Path) -> None:
    made = Made()
    bad = {
        "file": made.file("x", b"evil"),
        "dir": folder("x", made.tree(made.file("evil", b""))),
        "symlink": link("x", "t"),
    }
    tree = made.tree(bad[kind] | {"name": name}, made.file("z good", b"good"))
    (target / "stray").write_bytes(b"stray")
    outcome = made.restore(tree, target, delete=True)
    assert [during for _, during in outcome.faults()][-1] == "delete"
    assert outcome.faults()[0][1] in ("name", "read")
    assert {p.name for p in target.iterdir()} == {"z good", "stray"}
    assert untouched(target)
    assert not (target.parent / "escaped").exists()


def test_names_out_of_order_are_told_and_not_restored_twice(target: Path) -> None:
    made = Made()
    tree = made.tree(made.file("b", b"first"), made.file("b", b"second"), made.file("a", b"late"), made.file("c", b"c"))
    outcome = made.restore(tree, target)
    assert outcome.faults() == [(bytes(target), "read")] * 2
    assert (target / "b").read_bytes() == b"first"
    assert (target / "c").read_bytes() == b"c"


def test_links_in_the_way_are_replaced_and_never_followed(target: Path) -> None:
    made = Made()
    sub = made.tree(made.file("new", b"evil"), made.file("precious", b"evil"))
    tree = made.tree(folder("dir", sub), made.file("file", b"data"), link("link", "/nowhere"))
    os.symlink("../outside", target / "dir")
    os.symlink("../outside/precious", target / "file")
    os.symlink("../outside/precious", target / "link")
    assert made.restore(tree, target, delete=True).faults() == []
    assert not (target / "dir").is_symlink()
    assert (target / "dir" / "precious").read_bytes() == b"evil"
    assert not (target / "file").is_symlink()
    assert os.readlink(target / "link") == "/nowhere"
    assert untouched(target)


def test_a_link_of_the_snapshot_is_not_a_way_out(target: Path) -> None:
    made = Made()
    sub = made.tree(made.file("precious", b"evil"))
    tree = made.tree(link("a", "../outside"), folder("a", sub), folder("a2", sub))
    outcome = made.restore(tree, target)
    assert (bytes(target), "read") in outcome.faults()
    assert untouched(target)
    # The same in two snapshots, one after the other.
    made.restore(made.tree(link("d", "../outside")), target)
    assert made.restore(made.tree(folder("d", sub)), target).faults() == []
    assert untouched(target)


@pytest.mark.parametrize("overwrite", ["always", "if-changed"])
def test_a_hard_link_to_a_foreign_file_is_cut(overwrite: str, target: Path) -> None:
    made = Made()
    os.link(target.parent / "outside" / "precious", target / "file")
    stat = (target / "file").stat()
    same = made.file("file", b"precious", mtime="2030-01-01T00:00:00Z", mode=0o600)
    os.utime(target / "file", ns=(stat.st_atime_ns, 1893456000 * 10**9))
    assert made.restore(made.tree(same), target, overwrite=overwrite).faults() == []
    assert (target / "file").read_bytes() == b"precious"
    assert untouched(target)


@pytest.mark.parametrize("overwrite", ["always", "if-changed"])
def test_a_file_all_of_whose_names_are_restored_is_changed_in_place(overwrite: str, target: Path) -> None:
    """Made anew it would need its space twice; but a name that the snapshot doesn't have is of somebody else."""
    made = Made()
    same: dict[str, Any] = {"inode": 7, "device_id": 3, "links": 2}

    def tree(content: bytes, mtime: str = "2030-01-01T00:00:00Z") -> str:
        sub = made.tree(made.file("b", content, mtime=mtime, **same))
        return made.tree(made.file("a", content, mtime=mtime, **same), folder("sub", sub))

    assert made.restore(tree(b"one"), target).faults() == []
    inode = (target / "a").stat().st_ino
    again = made.restore(tree(b"one"), target, overwrite=overwrite)
    assert again.faults() == []
    assert again.actions()[bytes(target / "a")] == again.actions()[bytes(target / "sub/b")] == "unchanged"
    assert made.restore(tree(b"two", "2031-01-01T00:00:00Z"), target, overwrite=overwrite).faults() == []
    assert [path.read_bytes() for path in (target / "a", target / "sub/b")] == [b"two"] * 2
    assert (target / "a").stat().st_ino == (target / "sub/b").stat().st_ino == inode
    os.link(target / "a", target / "foreign")
    assert made.restore(tree(b"three"), target, overwrite=overwrite).faults() == []
    assert [path.read_bytes() for path in (target / "a", target / "sub/b", target / "foreign")] == [
        b"three",
        b"three",
        b"two",
    ]
    assert (target / "foreign").stat().st_ino == inode


def test_a_folder_that_was_set_aside_goes_though_only_some_is_restored(target: Path) -> None:
    made = Made()
    tree = made.tree(made.file("file", b"data"), made.file("other", b"other"))
    (target / "file" / "deep").mkdir(parents=True)
    (target / "kept").write_bytes(b"not selected")
    assert made.restore(tree, target, delete=True, includes=[b"/file"]).faults() == []
    assert sorted(path.name for path in target.iterdir()) == ["file", "kept"]
    assert (target / "file").read_bytes() == b"data"


class Swapper:
    """Puts a link in the place of a folder while the run waits for data."""

    def __init__(self, made: Made, folder: Path, to: Path) -> None:
        self.made, self.folder, self.to, self.swapped = made, folder, to, False

    def read(self, pack: str, offset: int, length: int) -> bytes:
        if not self.swapped and not self.made.index.has_tree_blobs(pack):
            self.swapped = True
            self.folder.rename(self.folder.with_name("moved away"))
            self.folder.symlink_to(self.to)
        return self.made.read(pack, offset, length)


def test_a_folder_that_is_swapped_for_a_link_meanwhile_is_not_followed(target: Path) -> None:
    made = Made()
    inner = made.tree(made.file("deep", b"deep"))
    sub = made.tree(folder("inner", inner), made.file("precious", b"evil"))
    tree = made.tree(folder("dir", sub))
    made.seal()
    swapper = Swapper(made, target / "dir", target.parent / "outside")
    (target / "dir" / "stray").mkdir(parents=True)
    run = kernel.Restore(made.key, made.index, tree=tree, target=bytes(target), delete=True)
    outcome = drive(run, swapper.read)
    assert swapper.swapped
    assert outcome.faults()
    assert untouched(target)


def test_hard_links_come_back_and_liars_do_not_link_out(target: Path) -> None:
    made = Made()
    same: dict[str, Any] = {"inode": 7, "device_id": 3, "links": 3}
    sub = made.tree(made.file("again", b"one", **same))
    other = made.file("y other content", b"two", **same)
    tree = made.tree(made.file("first", b"one", **same), folder("sub", sub), other, made.file("z", b"one", **same))
    os.link(target.parent / "outside" / "precious", target / "z")
    assert made.restore(tree, target).faults() == []
    inodes = {path: (target / path).stat().st_ino for path in ("first", "sub/again", "y other content", "z")}
    assert inodes["first"] == inodes["sub/again"] == inodes["z"] != inodes["y other content"]
    assert (target / "y other content").read_bytes() == b"two"
    assert untouched(target)
    again = made.restore(tree, target)
    assert again.faults() == []
    assert {(target / path).stat().st_ino for path in ("first", "sub/again", "z")} != set()


def test_sizes_that_lie_are_told_and_the_blobs_are_believed(target: Path) -> None:
    made = Made()
    sizes = {"a": 0, "b": 2**63, "c": 2**64 - 1, "d": 5}
    tree = made.tree(*(made.file(name, b"data", b"more") | {"size": size} for name, size in sizes.items()))
    outcome = made.restore(tree, target, verify=True)
    assert outcome.faults() == []
    assert [error.during for error in outcome.errors] == ["restore"] * 4
    assert {(target / name).read_bytes() for name in sizes} == {b"datamore"}


def peak() -> int:
    """The most memory that this process had since it was last reset, in KiB."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def test_claims_of_petabytes_allocate_nothing(target: Path) -> None:
    made = Made()
    blob = made.blob("data", b"x")
    made.seal()
    liar = "ab" * 32
    entry = {"id": liar, "type": "data", "offset": 0, "length": 4_000_000_000, "uncompressed_length": 4_000_000_000}
    made.add_index({"id": "cd" * 32, "blobs": [entry]})
    huge = node("huge", "file", size=10**15, content=[liar] * 250_000)
    zeros = node(
        "zeros",
        "file",
        size=10**15,
        content=["07854d2fef297a06ba81685e660c332de36d5d18d546927d30daad6d7fda1541"] * 1000,
    )
    tree = made.tree(huge, node("small", "file", size=1, content=[blob]), zeros)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    outcome = made.restore(tree, target)
    assert outcome.faults() == [(bytes(target / "huge"), "read")]
    assert (target / "small").read_bytes() == b"x"
    assert (target / "zeros").stat().st_size == 1000 * 512 * 1024
    assert (target / "zeros").stat().st_blocks == 0
    assert peak() - before < 100_000


def test_deep_trees_are_restored_and_too_deep_ones_are_an_error(target: Path) -> None:
    made = Made()
    tree = made.tree(made.file("bottom", b"x"))
    for _ in range(4100):
        tree = made.tree(folder("d", tree))
    outcome = made.restore(tree, target, verbose=False)
    assert [during for _, during in outcome.faults()] == ["restore"]
    assert outcome.summary["dirs_restored"] == 4096
    # By steps, for the path is longer than the system takes.
    subprocess.run(["rm", "-rf", str(target / "d")], check=True)


def test_what_a_node_lacks_is_told_by_name(target: Path) -> None:
    made = Made()
    tree = made.tree(
        node("a", "dir", subtree=None),
        node("b", "file", size=5),
        node("c", "irregular"),
        node("d", ""),
        node("e", "file", size=1, content=["ab" * 32]),
        folder("f", "cd" * 32),
        node("g", "file"),
        node("h", "socket"),
        made.file("i", b"good"),
    )
    outcome = made.restore(tree, target, delete=True)
    told = {os.path.basename(path).decode(): during for path, during in outcome.faults()}
    assert told == {
        "a": "restore",
        "b": "restore",
        "c": "restore",
        "d": "restore",
        "e": "read",
        "f": "read",
        "target": "delete",
    }
    assert {p.name for p in target.iterdir()} == {"f", "g", "i"}
    assert [e.path for e in outcome.errors if e.notice] == [bytes(target / "h")]


def test_a_damaged_tree_is_told_and_the_rest_is_restored(target: Path) -> None:
    made = Made()
    broken = made.blob("tree", b'{"nodes":[{"name":"a","type":"file","content":[]},{"name":')
    tree = made.tree(folder("broken", broken), made.file("good", b"good"))
    (target / "stray").write_bytes(b"")
    outcome = made.restore(tree, target, delete=True)
    assert outcome.faults() == [(bytes(target / "broken"), "read"), (bytes(target), "delete")]
    assert (target / "broken" / "a").exists()
    assert (target / "stray").exists()


def damage(made: Made, tree_too: bool = False) -> None:
    """Turn a bit in every blob of every pack of data."""
    for pack, data in made.packs.items():
        if tree_too or not made.index.has_tree_blobs(pack):
            changed = bytearray(data)
            for entry in made.index.pack_entries(pack):
                changed[entry.offset + 16] ^= 1
            made.packs[pack] = bytes(changed)


def test_damaged_data_fails_the_files_that_need_it_and_never_gets_its_time(target: Path) -> None:
    made = Made()
    lost = made.file("a", b"good", b"shared")
    sound = made.file("z", b"sound")
    made.seal()
    tree = made.tree(lost, made.file("b", b"good") | {"content": lost["content"][:1]}, sound)
    made.seal()
    bad = lost["content"][1]
    (place,) = made.index.locate("data", bad)
    data = bytearray(made.packs[place.pack])
    data[place.offset + 20] ^= 1
    made.packs[place.pack] = bytes(data)
    outcome = made.restore(tree, target)
    assert outcome.faults() == [(bytes(target / "a"), "read")]
    assert bad in outcome.errors[0].message
    assert (target / "b").read_bytes() == b"good"
    assert (target / "z").read_bytes() == b"sound"
    assert (target / "a").stat().st_mtime > 10**9
    assert made.restore(tree, target, overwrite="if-changed").faults() == [(bytes(target / "a"), "read")]


def test_a_blob_is_taken_from_another_pack_where_the_first_is_damaged_or_gone(target: Path) -> None:
    made = Made()
    file = made.file("f", b"content", b"other")
    made.seal()
    damage(made)
    for part in (b"content", b"other"):
        made.blob("data", part)
    made.packs[next(iter(made.packs))] = made.packs[next(iter(made.packs))]
    tree = made.tree(file)
    assert made.restore(tree, target).faults() == []
    assert (target / "f").read_bytes() == b"contentother"
    # And for trees.
    made.tree(file)
    made.seal()
    first = made.index.locate("tree", tree)[0].pack
    del made.packs[first]
    assert made.restore(tree, target).faults() == []


def test_a_storage_that_refuses_everything_fails_every_file_and_nothing_else(target: Path) -> None:
    made = Made()
    tree = made.tree(*(made.file(f"{n:03}", bytes([n])) for n in range(50)), folder("sub", made.tree()))
    made.seal()

    def read(pack: str, offset: int, length: int) -> bytes:
        if made.index.has_tree_blobs(pack):
            return made.read(pack, offset, length)
        raise OSError("the storage is away")

    run = kernel.Restore(made.key, made.index, tree=tree, target=bytes(target), delete=True)
    outcome = drive(run, read)
    assert sorted(outcome.faults()) == sorted(
        [(bytes(target / f"{n:03}"), "read") for n in range(50)] + [(bytes(target), "delete")]
    )
    assert "the storage is away" in outcome.errors[0].message
    assert outcome.summary["errors"] == 51


def test_a_full_disk_is_told_and_switches_deletion_off(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    target = tmp_path / "small"
    target.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(target)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        (target / "stray").write_bytes(b"x")
        made = Made()
        tree = made.tree(
            made.file("a", b"small"), made.file("big", *(os.urandom(1 << 20) for _ in range(4))), made.file("z", b"")
        )
        outcome = made.restore(tree, target, delete=True)
        assert (bytes(target / "big"), "write") in outcome.faults()
        assert outcome.faults()[-1] == (bytes(target), "delete")
        assert "No space left" in next(e.message for e in outcome.errors if e.during == "write")
        assert (target / "a").read_bytes() == b"small"
        assert (target / "stray").exists()
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_deletion_does_not_cross_a_mount_point(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a file system")
    target = tmp_path / "target"
    (target / "stray" / "mounted").mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(target / "stray" / "mounted")], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        (target / "stray" / "mounted" / "precious").write_bytes(b"x")
        made = Made()
        outcome = made.restore(made.tree(made.file("f", b"")), target, delete=True)
        assert (bytes(target / "stray" / "mounted"), "delete") in outcome.faults()
        assert (target / "stray" / "mounted" / "precious").read_bytes() == b"x"
    finally:
        subprocess.run(["umount", str(target / "stray" / "mounted")], check=True)


def test_cancel_ends_a_run_that_waits(target: Path) -> None:
    made = Made()
    tree = made.tree(made.file("f", b"data"))
    made.seal()
    run = kernel.Restore(made.key, made.index, tree=tree, target=bytes(target))
    assert isinstance(run.next(60), kernel.Fetch)
    run.cancel()
    with pytest.raises(kernel.KernelError, match="cancelled"):
        drive(run, made.read)


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from tests.unit.kernel.runs import Made, folder
os.setgroups([]); os.setgid(12345); os.setuid(12345)
made = Made()
target = Path(sys.argv[1])
ours = {"uid": 12345, "gid": 12345}
foreign = {"uid": 0, "gid": 0, "mode": 0o755 | 1 << 23}
sub = made.tree(made.file("inside", b"inside", **ours))
closed = folder("closed", sub, mode=0o555 | 1 << 31, **ours)
tree = made.tree(closed, made.file("foreign", b"f", **foreign), made.file("own", b"o", **ours))
for n in range(2):
    outcome = made.restore(tree, target)
    assert outcome.faults() == [(bytes(target / "foreign"), "owner")], outcome.errors
    assert (target / "foreign").stat().st_mode & 0o7777 == 0o755
    (target / "closed").chmod(0o555)
sub = made.tree(made.file("inside", b"other", **ours), made.file("more", b"m", **ours))
changed = made.tree(folder("closed", sub, mode=0o555 | 1 << 31, **ours))
outcome = made.restore(changed, target, owner=False)
assert outcome.faults() == [], outcome.errors
assert (target / "closed" / "inside").read_bytes() == b"other"
assert (target / "closed").stat().st_mode & 0o7777 == 0o555
trusted = {"extended_attributes": [{"name": "security.capability", "value": "AQAAAgAEAAAAAAAAAAAAAAAAAAA="}]}
outcome = made.restore(made.tree(made.file("capable", b"c", **ours, **trusted)), target)
assert outcome.faults() == [(bytes(target / "capable"), "xattr")]
print("done")
"""


def test_an_unprivileged_restore_tells_what_it_could_not_own(target: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become someone else")
    target.chmod(0o777)
    for parent in target.parents:
        if parent == Path("/tmp") or not parent.is_relative_to("/tmp"):
            break
        parent.chmod(parent.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(target)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "done\n", done.stderr
