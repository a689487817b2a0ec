"""What is mounted looks like what was backed up, and ends without a trace."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lowtide_engine import mount as mounting
from lowtide_engine.cli.root import root_command
from lowtide_engine.mount import Browser, shelves
from lowtide_engine.repository import IndexedRepository, Instant, Snapshot
from tests.cluster import host
from tests.cluster.waiting import wait_for
from tests.conformance.actors import PASSWORD, Lowtide, Restic
from tests.conformance.quick import make_repository
from tests.conformance.trees import describe, differences, make_plain_tree

if TYPE_CHECKING:
    from lowtide_engine.mount import Renew

pytestmark = pytest.mark.oracle


@pytest.fixture
def fuse() -> None:
    if importlib.util.find_spec("mfusepy") is None:
        pytest.skip("mfusepy is not installed: requirements/dev.txt has it")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not there, or not ours to use")
    try:
        host.prepare("fusermount3")
    except host.HostError as error:
        pytest.skip(f"no libfuse: {error}")


@contextmanager
def mounted(lowtide: Lowtide, folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The repository on `folder`, for the block; unmounted afterwards, whatever happens."""
    folder.mkdir()
    with lowtide.start("mount", *options, folder) as process:
        try:
            wait_for(
                "the mount",
                lambda: (folder / "ids").exists() or process.poll() is not None,
                within=60,
                seen=lambda: f"exit code {process.poll()}",
            )
            assert process.poll() is None, process.communicate()[1].decode()
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
            if os.path.ismount(folder):
                subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def source(tmp_path: Path, place: str, restic: Restic) -> Path:
    make_repository(place)
    folder = tmp_path / "source"
    make_plain_tree(folder, large=20_000_000)
    Path(os.fsdecode(os.fsencode(folder) + b"/not utf-8 \xff")).write_bytes(b"odd")
    os.setxattr(folder / "large", "user.colour", b"blue\x00green")
    restic.backup("source", "--host", "shop/nightly", "--tag", "a", "--time", "2020-01-01 00:00:00", cwd=tmp_path)
    restic.backup("source", "--host", "other", "--time", "2020-01-02 00:00:00", cwd=tmp_path)
    return folder


def test_it_shows_what_was_backed_up(
    fuse: None, lowtide: Lowtide, restic: Restic, source: Path, tmp_path: Path, place: str
) -> None:
    first, second = (str(snapshot["short_id"]) for snapshot in restic.snapshots())
    folder = tmp_path / "mounted"
    with mounted(lowtide, folder) as process:
        assert differences(describe(source), describe(folder / "ids" / first / "source")) == []
        assert sorted(os.listdir(folder)) == ["hosts", "ids", "snapshots", "tags"]
        assert sorted(os.listdir(folder / "ids")) == sorted([first, second])
        assert sorted(os.listdir(folder / "hosts")) == ["other", "shop_nightly"]
        assert os.listdir(folder / "tags") == ["a"]
        times = ["2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"]
        assert sorted(os.listdir(folder / "snapshots")) == [*times, "latest"]
        assert os.readlink(folder / "snapshots" / "latest") == times[1]
        with open(folder / "snapshots" / "latest" / "source" / "large", "rb") as file:
            file.seek(15_000_000)
            assert file.read(100_000) == (source / "large").read_bytes()[15_000_000:15_100_000]
            assert file.seek(0, os.SEEK_END) == 20_000_000
            assert file.read(1) == b""
        with pytest.raises(OSError, match="Read-only"):
            (folder / "new").touch()
        with pytest.raises(FileNotFoundError):
            (folder / "ids" / "none").stat()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not os.path.ismount(folder)
    assert list((Path(place) / "locks").iterdir()) == []


def test_it_ends_when_it_is_unmounted_and_damage_is_an_error_of_reading(
    fuse: None, lowtide: Lowtide, source: Path, tmp_path: Path, place: str
) -> None:
    folder = tmp_path / "mounted"
    largest = max(Path(place).glob("data/*/*"), key=lambda path: path.stat().st_size)
    with mounted(lowtide, folder, "--tag", "a", "--no-cache") as process:
        largest.unlink()
        assert os.listdir(folder / "ids") != []
        with pytest.raises(OSError, match="Input/output"):
            (folder / "snapshots" / "latest" / "source" / "large").read_bytes()
        subprocess.run(["umount", folder], check=True)
        assert process.wait(60) == 0
        assert b"can't be read" in process.communicate()[1]


@pytest.mark.parametrize(
    ("options", "readable", "owner"),
    [
        ([], set(), 1234),
        (["--allow-other"], {"public"}, 1234),
        (["--allow-other", "--owner-root"], {"public"}, 0),
        (["--allow-other", "--no-default-permissions"], {"public", "private"}, 1234),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_others_are_let_in_only_where_asked_for(
    options: list[str],
    readable: set[str],
    owner: int,
    root_only: None,
    fuse: None,
    lowtide: Lowtide,
    restic: Restic,
    tmp_path: Path,
    place: str,
) -> None:
    make_repository(place)
    source = tmp_path / "source"
    source.mkdir()
    for name, mode in (("public", 0o644), ("private", 0o600)):
        (source / name).write_text(name)
        os.chmod(source / name, mode)
        os.chown(source / name, 1234, 1234)
    restic.backup("source", cwd=tmp_path)
    folder = tmp_path / "mounted"

    def read_by_another(name: str) -> bool:
        # The folder is entered before the user is another, for those above it are root's alone.
        path = f"snapshots/latest/source/{name}"
        seen = subprocess.run(["cat", path], cwd=folder, user=4321, group=4321, extra_groups=(), capture_output=True)
        return seen.stdout.decode() == name

    with mounted(lowtide, folder, *options):
        assert {name for name in ("public", "private") if read_by_another(name)} == readable
        assert (folder / "snapshots" / "latest" / "source" / "public").stat().st_uid == owner


def test_who_looks_again_later_sees_what_came_meanwhile(
    lowtide: Lowtide, source: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without FUSE, as the command looks: `mount` is not called, but what it would be given is looked at."""
    seen: list[list[int]] = []

    def look(indexed: IndexedRepository, snapshots: list[Snapshot], *_: object, renew: Renew, **__: object) -> None:
        browser = Browser(indexed, snapshots, renew)

        def count() -> None:
            seen.append([len(browser.children(browser.find(shelf))) for shelf in ("/ids", "/hosts")])

        count()
        (source / "new").write_bytes(b"new" * 100_000)
        lowtide.backup("--host", "third", source)
        count()
        monkeypatch.setattr(mounting, "LOOK_AGAIN_SECONDS", 0.0)
        count()
        [name] = browser.children(browser.find("/hosts/third")).keys() - {"latest"}
        node = browser.find(f"/hosts/third/{name}{source}/new")
        assert not isinstance(node, dict | str | Snapshot)
        assert browser.read(node, browser.offsets(node), 0, node.size) == b"new" * 100_000
        (Path(place) / "snapshots" / ("0" * 64)).write_bytes(b"damaged")
        count()

    monkeypatch.setattr(mounting, "mount", look)
    monkeypatch.setenv("RESTIC_REPOSITORY", place)
    monkeypatch.setenv("RESTIC_PASSWORD", PASSWORD)
    root_command().main(["mount", "anywhere", "--no-lock"], standalone_mode=False)
    assert seen == [[2, 2], [2, 2], [3, 3], [3, 3]]


def test_what_can_not_be_mounted_on_is_told(lowtide: Lowtide, place: str, tmp_path: Path) -> None:
    make_repository(place)

    lowtide.run("mount", tmp_path / "none", code=1)

    assert lowtide.result is not None
    assert lowtide.result.reason == "MountImpossible"


def test_names_of_shelves_are_names_of_files_and_none_hides_another() -> None:
    def snapshot(number: int, second: int, **facts: object) -> Snapshot:
        tree = f"{number:064}"
        return Snapshot(Instant.at(second), tree, (), id=f"{number:08}{tree[8:]}", **facts)  # type: ignore[arg-type]

    same = [snapshot(1, 0, hostname="a/b", tags=("..", "x")), snapshot(2, 0, hostname="")]

    found = shelves(same)

    names = {shelf: set(content) for shelf, content in found.items() if isinstance(content, dict)}
    assert names["ids"] == {"00000001", "00000002"}
    assert len(names["snapshots"]) == 3
    assert names["hosts"] == {"a_b", "_"}
    assert names["tags"] == {"_", "x"}
