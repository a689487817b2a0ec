"""Whatever a folder holds, a backup and a restore of it, over whatever is in the target, give the same folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowtide_engine import _kernel as kernel
from tests.unit.kernel import driver, runs
from tests.unit.kernel.plain_repository import PlainRepository
from tests.unit.kernel.test_restore import everything

NAMES = st.one_of(
    st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b"..")),
    st.sampled_from([b"a", b"b", b"same", "ä\u00a0\u200b".encode(), b'<&>"\\', b"\xff", b"new\nline"]),
)
CONTENTS = st.one_of(
    st.binary(max_size=200),
    st.tuples(st.integers(0, 255), st.integers(0, 3_000_000)).map(lambda pair: bytes([pair[0]]) * pair[1]),
    st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.integers(0, 200_000)), max_size=4).map(
        lambda runs: b"".join(data + bytes(zeros) for data, zeros in runs)
    ),
)
TIMES = st.integers(-(2**31), 2**33).flatmap(lambda s: st.integers(0, 10**9 - 1).map(lambda n: s * 10**9 + n))
MODES = st.integers(0, 0o7777)
ENTRIES = st.one_of(
    st.tuples(st.just("file"), NAMES, CONTENTS, TIMES, MODES),
    st.tuples(st.just("dir"), NAMES, st.just(b""), TIMES, MODES),
    st.tuples(st.just("link"), NAMES, NAMES, TIMES, MODES),
    st.tuples(st.just("hard"), NAMES, st.just(b""), TIMES, MODES),
    st.tuples(st.just("fifo"), NAMES, st.just(b""), TIMES, MODES),
    st.tuples(st.just("sparse"), NAMES, st.binary(min_size=1, max_size=50), TIMES, MODES),
    st.tuples(st.just("attribute"), NAMES, st.binary(max_size=200), TIMES, MODES),
)
Entry = tuple[str, bytes, bytes, int, int]


def build(top: bytes, entries: list[Entry]) -> None:
    """Make the entries, each in the folder that was made last or in the top one; what can't be made is left out."""
    os.makedirs(top, exist_ok=True)
    folders, regular, made = [top], [], []
    for number, (kind, name, content, when, mode) in enumerate(entries):
        path = os.path.join(folders[-1 if number % 3 else 0], name)
        if kind == "attribute":
            os.setxattr((regular or folders)[-1], b"user." + name.hex().encode(), content)
            continue
        if os.path.lexists(path):
            continue
        if kind == "file":
            with open(path, "wb") as file:
                file.write(content)
            regular.append(path)
        elif kind == "sparse":
            with open(path, "wb") as file:
                for hole in (0, 70_000, 1_000_000):
                    file.seek(hole, os.SEEK_CUR)
                    file.write(content)
                file.truncate(file.tell() + 500_000)
            regular.append(path)
        elif kind == "dir":
            os.mkdir(path)
            folders.append(path)
        elif kind == "link":
            os.symlink(content, path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif regular:
            os.link(regular[-1], path)
        else:
            continue
        made.append((path, kind, when, mode))
    for path, kind, when, mode in reversed(made):
        if kind not in ("link", "hard"):
            # Root reads it all; anybody else must be able to.
            os.chmod(path, mode if os.geteuid() == 0 else mode | 0o700)
        if kind != "hard":
            os.utime(path, ns=(when, when), follow_symlinks=False)


@pytest.fixture(scope="module", name="both")
def _both(tmp_path_factory: pytest.TempPathFactory) -> tuple[driver.Restic, PlainRepository]:
    return driver.new_repository(tmp_path_factory.mktemp("repository") / "r")


@pytest.fixture(scope="module", name="repository")
def _repository(both: tuple[driver.Restic, PlainRepository]) -> PlainRepository:
    return both[1]


@pytest.mark.oracle
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    entries=st.lists(ENTRIES, max_size=14),
    there=st.lists(ENTRIES, max_size=10),
    overwrite=st.sampled_from(["always", "if-changed"]),
    sparse=st.booleans(),
)
def test_a_restore_gives_the_folder_that_was_backed_up(
    repository: PlainRepository, entries: list[Entry], there: list[Entry], overwrite: str, sparse: bool
) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="lowtide-property-"))
    try:
        source, target = os.fsencode(scratch / "source"), os.fsencode(scratch / "target")
        build(source, entries)
        build(target, there)
        index = repository.index()
        saved = driver.drive(driver.backup(repository, source, index=index), repository)
        assert [error for error in saved.errors if not error.notice] == []
        restore = kernel.Restore(
            repository.key,
            index,
            tree=saved.root,
            target=target,
            subfolder=source,
            overwrite=overwrite,  # type: ignore[arg-type]
            sparse=sparse,
            delete=True,
            verify=True,
            root_metadata=True,
        )
        outcome = runs.drive(restore, runs.reader_of(repository.folder))
        assert outcome.faults() == []
        assert everything(Path(os.fsdecode(target))) == everything(Path(os.fsdecode(source)))
        check = kernel.Check(repository.key, index, roots=[saved.root])
        assert runs.drive(check, runs.reader_of(repository.folder)).problems == []
    finally:
        for path, _, _ in os.walk(scratch):
            os.chmod(path, 0o700)
        shutil.rmtree(scratch)


@pytest.mark.oracle
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(entries=st.lists(ENTRIES, min_size=3, max_size=14))
def test_restic_makes_the_same_tree_and_restores_it(
    both: tuple[driver.Restic, PlainRepository], entries: list[Entry]
) -> None:
    """The same id is the same bytes: what one backs up, the other restores."""
    restic, repository = both
    scratch = Path(tempfile.mkdtemp(prefix="lowtide-property-"))
    before = Path.cwd()
    try:
        build(os.fsencode(scratch / "source"), entries)
        # A relative path: folders above, which others change meanwhile, are not in the tree.
        os.chdir(scratch)
        saved = driver.drive(driver.backup(repository, b"source"), repository)
        assert restic.backup("--force", "source", cwd=scratch) == saved.root
        restic("restore", "latest:/source", "--target", str(scratch / "target"))
        assert everything(scratch / "target") == everything(scratch / "source")
    finally:
        os.chdir(before)
        for path, _, _ in os.walk(scratch):
            os.chmod(path, 0o700)
        shutil.rmtree(scratch)
