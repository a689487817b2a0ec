"""What a backup does when files, saves or parents fail: nothing is lost, nothing is claimed that is not so."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lowtide_engine import _kernel as kernel
from tests.unit.kernel.driver import Ended, answer, backup, drive
from tests.unit.kernel.plain_repository import PlainRepository

PACK = 4 << 20
FAR_MORE_THAN_ALL_BUFFERS = 120 << 20


@pytest.fixture(name="repository")
def _repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlainRepository:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source").mkdir()
    # Relative, for the one test that goes on as nobody, who may not go through the folders above.
    return PlainRepository.bare(Path("repository"))


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    return tmp_path / "source"


def noise(length: int) -> bytes:
    return random.Random(7).randbytes(length)


def nodes(repository: PlainRepository, root: str, *path: bytes) -> dict[bytes, kernel.Node]:
    """The nodes of a folder in a stored tree."""
    index = repository.index()
    for name in [*path, None]:
        place = index.locate("tree", root)[0]
        sealed = repository.pack(place.pack).read_bytes()[place.offset : place.offset + place.length]
        found = kernel.decode_tree(kernel.open_blob(repository.key, sealed, root, place.uncompressed_length))
        if name is not None:
            (root,) = [str(n.subtree) for n in found if n.name == name]
    return {n.name: n for n in found}


def content(repository: PlainRepository, node: kernel.Node) -> bytes:
    index = repository.index()
    parts = []
    for blob in node.content or []:
        place = index.locate("data", blob)[0]
        sealed = repository.pack(place.pack).read_bytes()[place.offset : place.offset + place.length]
        parts.append(kernel.open_blob(repository.key, sealed, blob, place.uncompressed_length))
    return b"".join(parts)


def once(run: kernel.Backup, then: Callable[[], None]) -> Callable[[object], None]:
    """At the first pack, when the walk is over and the reader is held up by full buffers, do something to the files."""
    state = {"done": False}

    def before(event: object) -> None:
        if isinstance(event, kernel.PackReady) and not state["done"]:
            deadline = time.monotonic() + 60
            while not run.progress().scan_finished:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            state["done"] = True
            then()

    return before


@pytest.mark.parametrize("how", ["grows", "shrinks", "is overwritten"])
def test_a_file_that_changes_while_it_is_read_is_told(how: str, repository: PlainRepository, source: Path) -> None:
    large = source / "large"
    large.write_bytes(noise(FAR_MORE_THAN_ALL_BUFFERS))
    (source / "other").write_bytes(b"fine")

    def change() -> None:
        with large.open("r+b") as file:
            match how:
                case "grows":
                    file.seek(0, os.SEEK_END)
                    file.write(b"more")
                case "shrinks":
                    file.truncate(100 << 20)
                case _:
                    file.write(b"other")

    run = backup(repository, b"source", pack_size=PACK, readers=1, compression="off")
    ended = drive(run, repository, before=once(run, change))
    assert [(e.path, e.during) for e in ended.failures()] == [(os.fsencode(large), "read")]
    assert "changed while it was read" in ended.errors[0].message
    assert ended.summary["errors"] == 1
    found = nodes(repository, ended.root, b"source")
    assert content(repository, found[b"other"]) == b"fine"
    # The next run does not take it for unchanged.
    again = drive(backup(repository, b"source", parent=ended.root), repository)
    assert again.failures() == []
    assert content(repository, nodes(repository, again.root, b"source")[b"large"]) == large.read_bytes()


def test_a_file_that_vanishes_before_it_is_read_is_told(repository: PlainRepository, source: Path) -> None:
    (source / "a").write_bytes(noise(FAR_MORE_THAN_ALL_BUFFERS))
    (source / "b").write_bytes(b"b")
    (source / "c").write_bytes(b"c")
    run = backup(repository, b"source", pack_size=PACK, readers=1, compression="off")
    ended = drive(run, repository, before=once(run, (source / "b").unlink))
    assert [(e.path, e.during, e.notice) for e in ended.errors] == [(os.fsencode(source / "b"), "open", False)]
    found = nodes(repository, ended.root, b"source")
    assert list(found) == [b"a", b"c"]
    assert content(repository, found[b"c"]) == b"c"
    assert content(repository, found[b"a"]) == noise(FAR_MORE_THAN_ALL_BUFFERS)


@pytest.fixture(name="_as_nobody")
def _as_nobody(repository: PlainRepository, tmp_path: Path) -> Iterator[None]:
    """For whom permissions count."""
    if os.geteuid() == 0:
        tmp_path.chmod(0o755)
        for folder in [repository.folder, *repository.folder.rglob("*")]:
            folder.chmod(0o777)
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


def test_what_may_not_be_read_is_told_and_the_rest_is_saved(
    repository: PlainRepository, source: Path, request: pytest.FixtureRequest
) -> None:
    (source / "secret").write_bytes(b"x")
    (source / "secret").chmod(0)
    (source / "closed").mkdir()
    (source / "closed" / "inside").write_bytes(b"x")
    (source / "closed").chmod(0)
    (source / "open").write_bytes(b"fine")
    parent = drive(backup(repository, b"source"), repository) if os.geteuid() == 0 else None
    request.getfixturevalue("_as_nobody")
    ended = drive(backup(repository, b"source"), repository)
    assert {(e.path, e.during) for e in ended.failures()} == {
        (os.fsencode(source / "secret"), "open"),
        (os.fsencode(source / "closed"), "open"),
    }
    assert list(nodes(repository, ended.root, b"source")) == [b"open"]
    if parent is not None:
        # A parent that has the file does not stand in for it, once the file has changed.
        os.seteuid(0)
        (source / "secret").write_bytes(b"changed")
        os.seteuid(65534)
        ended = drive(backup(repository, b"source", parent=parent.root), repository)
        assert os.fsencode(source / "secret") in {e.path for e in ended.failures()}
        assert b"secret" not in nodes(repository, ended.root, b"source")


def test_folders_above_a_target_need_only_be_passable(
    repository: PlainRepository, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "passable" / "target").mkdir(parents=True)
    (tmp_path / "passable" / "target" / "file").write_bytes(b"x")
    (tmp_path / "passable").chmod(0o711)
    request.getfixturevalue("_as_nobody")
    ended = drive(backup(repository, b"passable/target"), repository)
    assert ended.errors == []
    assert nodes(repository, ended.root)[b"passable"].permissions == 0o711
    assert list(nodes(repository, ended.root, b"passable", b"target")) == [b"file"]


def many_packs(source: Path) -> None:
    (source / "large").write_bytes(noise(60 << 20))


def test_an_index_names_acknowledged_packs_only(repository: PlainRepository, source: Path) -> None:
    many_packs(source)
    run = backup(repository, b"source", pack_size=PACK, index_packs=3)
    acknowledged: set[str] = set()
    named: list[list[str]] = []
    held: list[str] = []

    def acknowledge() -> None:
        acknowledged.update(held)
        run.pack_stored(held.pop())

    while not isinstance(event := run.next(0.5 if held else 60), kernel.Finished):
        match event:
            case kernel.PackReady():
                if held:
                    acknowledge()
                held.append(event.pack)
            case kernel.IndexReady():
                packs = [p["id"] for p in json.loads(event.json)["packs"]]
                assert set(packs) <= acknowledged
                named.append(packs)
                run.index_stored(event.ticket)
            case _:
                assert held, "nothing came for a minute"
                acknowledge()
        del event
    assert all(len(packs) >= 3 for packs in named[:-1])
    assert sorted(p for packs in named for p in packs) == sorted(acknowledged)
    assert len(acknowledged) > 10


def test_the_root_waits_for_the_last_index(repository: PlainRepository, source: Path) -> None:
    (source / "file").write_bytes(b"x")
    run = backup(repository, b"source")
    while not isinstance(event := run.next(60), kernel.IndexReady):
        assert event is not None
        answer(run, repository, event, Ended())
    assert run.next(0.3) is None
    assert run.unindexed_packs() == 2
    run.index_stored(event.ticket)
    finished = run.next(60)
    assert isinstance(finished, kernel.Finished)
    assert len(finished.root) == 64
    with pytest.raises(kernel.KernelError, match="over"):
        run.next(0)


def test_without_an_acknowledgement_there_is_no_index_and_no_root(repository: PlainRepository, source: Path) -> None:
    (source / "file").write_bytes(b"x")
    run = backup(repository, b"source", index_seconds=0.0)
    seen = []
    while (event := run.next(0.5)) is not None:
        seen.append(type(event))
    assert seen == [kernel.PackReady, kernel.PackReady]
    with pytest.raises(kernel.KernelError, match="not handed out"):
        run.pack_stored("0" * 64)
    run.cancel()
    with pytest.raises(kernel.KernelError, match="cancelled"):
        run.next(60)


def test_flush_index_saves_what_is_acknowledged(repository: PlainRepository, source: Path) -> None:
    many_packs(source)
    run = backup(repository, b"source", pack_size=PACK)
    pack = run.next(60)
    assert isinstance(pack, kernel.PackReady)
    answer(run, repository, pack, Ended())
    name = pack.pack
    del pack
    run.flush_index()
    index = None
    while index is None:
        event = run.next(60)
        index = event if isinstance(event, kernel.IndexReady) else None
    assert [p["id"] for p in json.loads(index.json)["packs"]] == [name]
    assert run.unindexed_packs() == 1
    answer(run, repository, index, Ended())
    assert run.unindexed_packs() == 0
    run.cancel()
    # What was flushed is not stored again by the next run.
    before = {e.blob for e in repository.index().pack_entries(name)}
    ended = drive(backup(repository, b"source"), repository)
    after = [e.blob for p in ended.packs for e in repository.index().pack_entries(p)]
    assert before
    assert not before & set(after)


def test_the_kernel_waits_while_all_buffers_are_out(repository: PlainRepository, source: Path) -> None:
    many_packs(source)
    run = backup(repository, b"source", pack_size=PACK, compression="off")
    out: list[kernel.PackReady] = []
    while (event := run.next(2)) is not None:
        assert isinstance(event, kernel.PackReady)
        out.append(event)
    # One buffer may be with a pack that is still open.
    assert 2 <= len(out) <= 4
    assert run.progress().bytes_done < 60 << 20
    out.clear()
    del event
    assert isinstance(run.next(60), kernel.PackReady)


def test_the_kernel_does_not_wait_for_released_packs_that_somebody_holds(
    repository: PlainRepository, source: Path
) -> None:
    """A failed attempt to store leaves its traceback, and in it the pack, until the garbage collector comes."""
    many_packs(source)
    held: list[object] = []
    views: list[memoryview] = []

    def hold(event: object) -> None:
        if isinstance(event, kernel.PackReady):
            held.append(event)
            views.append(memoryview(event.data))

    run = backup(repository, b"source", pack_size=PACK, compression="off")
    ended = Ended()
    while not isinstance(event := run.next(10), kernel.Finished):
        assert event is not None, "the kernel waits for what was released"
        hold(event)
        answer(run, repository, event, ended)
        if isinstance(event, kernel.PackReady):
            assert not event.release()
    assert len(held) > 4
    for pack, view in zip(held, views, strict=True):
        assert isinstance(pack, kernel.PackReady)
        assert bytes(view) == repository.pack(pack.pack).read_bytes()
        view.release()
        assert pack.release()
        with pytest.raises(BufferError, match="released"):
            memoryview(pack.data)


def test_a_dry_run_stores_nothing_and_counts(repository: PlainRepository, source: Path) -> None:
    (source / "a").write_bytes(noise(3 << 20))
    (source / "b").write_bytes(noise(3 << 20))
    dry = drive(backup(repository, b"source", dry_run=True), repository)
    assert repository.names("data") == repository.names("index") == []
    real = drive(backup(repository, b"source"), repository)
    assert dry.root == real.root
    assert dry.summary == real.summary


def test_a_parent_that_can_not_be_read_only_costs_work(repository: PlainRepository, source: Path) -> None:
    (source / "file").write_bytes(b"x")
    first = drive(backup(repository, b"source"), repository)
    run = backup(repository, b"source", parent=first.root)
    ended = Ended()
    while not isinstance(event := run.next(60), kernel.Finished):
        if isinstance(event, kernel.Fetch):
            assert event.kind == "tree"
            run.refuse(event.ticket, "the disk is on fire")
        else:
            answer(run, repository, event, ended)
    assert event.root == first.root
    assert [(e.during, e.notice) for e in ended.errors] == [("parent", True)]
    assert "on fire" in ended.errors[0].message
    unknown = drive(backup(repository, b"source", parent="0" * 64), repository)
    assert unknown.root == first.root


def test_content_that_the_repository_lost_is_stored_again(repository: PlainRepository, source: Path) -> None:
    (source / "file").write_bytes(b"text")
    first = drive(backup(repository, b"source"), repository)
    full = json.loads(first.indexes[0])
    full["packs"] = [p for p in full["packs"] if p["blobs"][0]["type"] == "tree"]
    index = kernel.Index()
    index.add("1" * 64, json.dumps(full).encode())
    again = drive(backup(repository, b"source", index=index, parent=first.root), repository)
    assert again.root == first.root
    assert list(again.packs.values()) == ["data"]
    assert again.summary["data_blobs"] == 1
    assert [(e.during, e.notice) for e in again.errors] == [("parent", True)]


def test_names_are_looked_up_or_omitted(repository: PlainRepository, source: Path) -> None:
    (source / "file").write_bytes(b"x")
    with_names = nodes(repository, drive(backup(repository, b"source"), repository).root)[b"source"]
    without = nodes(repository, drive(backup(repository, b"source", omit_names=True), repository).root)[b"source"]
    assert (without.user, without.group) == ("", "")
    if os.geteuid() == 0:
        assert (with_names.user, with_names.group) == ("root", "root")


def test_bad_arguments_are_refused_at_once(repository: PlainRepository) -> None:
    for options in ({"pack_size": 1 << 20}, {"compression": "none"}, {"excludes": [b"a[b"]}, {"polynomial": 5}):
        with pytest.raises(kernel.KernelError):
            kernel.Backup(
                repository.key,
                repository.index(),
                **{"polynomial": repository.polynomial, "version": 2, "targets": [b"source"], **options},  # type: ignore[arg-type]
            )


def kernel_threads() -> list[str]:
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
        except OSError:
            continue
        if name.startswith("lowtide-"):
            names.append(name)
    return names


@pytest.mark.parametrize("events", range(0, 12, 2))
def test_cancel_ends_every_thread_at_any_moment(events: int, repository: PlainRepository, source: Path) -> None:
    many_packs(source)
    first = drive(backup(repository, b"source"), repository)
    for number in range(300):
        (source / f"{number}").write_bytes(b"%d" % number)
    for parent in (None, first.root):
        run = backup(repository, b"source", index=kernel.Index(), parent=parent, pack_size=PACK)
        for _ in range(events):
            event = run.next(0.05)
            if isinstance(event, kernel.PackReady):
                run.pack_stored(event.pack)
            if isinstance(event, kernel.Finished):
                break
            # Other events are left without an answer, so that threads wait for it.
        event = None
        run.cancel()
        run.cancel()
        deadline = time.monotonic() + 30
        while kernel_threads():
            assert time.monotonic() < deadline, kernel_threads()
            time.sleep(0.01)


def test_a_run_that_nobody_refers_to_ends(repository: PlainRepository, source: Path) -> None:
    many_packs(source)
    run = backup(repository, b"source", pack_size=PACK)
    assert run.next(60) is not None
    del run
    deadline = time.monotonic() + 30
    while kernel_threads():
        assert time.monotonic() < deadline, kernel_threads()
        time.sleep(0.01)
