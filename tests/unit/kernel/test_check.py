"""Check: every tree of a sound repository passes, and each kind of damage has its own word."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowtide_engine import _kernel as kernel
from tests.unit.kernel.plain_repository import PlainRepository, unpack
from tests.unit.kernel.runs import Made, Outcome, drive, folder, link, node, reader_of


def check(repository: PlainRepository) -> tuple[Outcome, kernel.Check, kernel.Index]:
    index = repository.index()
    run = kernel.Check(repository.key, index, roots=[str(s["tree"]) for s in repository.snapshots()])
    return drive(run, reader_of(repository.folder)), run, index


@pytest.mark.parametrize(
    ("name", "password", "unused"),
    [
        ("restic/small-repo", "geheim", 0),
        ("restic/copy-unstable-json", "geheim", 0),
        ("restic/repo-layout-default", "geheim", 0),
        ("restic/repo-duplicates", "geheim", 4),
        ("restic/repo-unreferenced-data", "geheim", 0),
        ("rustic/restic-repo", "restic", 0),
    ],
)
def test_sound_repositories_have_no_problem(name: str, password: str, unused: int, tmp_path: Path) -> None:
    repository = PlainRepository(unpack(f"{name}.tar.gz", tmp_path), password)
    outcome, run, index = check(repository)
    assert outcome.problems == []
    assert len(run.unused()) == unused
    assert outcome.summary["trees"] > 0
    blobs = {(e.kind, e.blob) for pack in index.packs() for e in index.pack_entries(pack)}
    assert outcome.summary["blobs_used"] == len(blobs) - unused


def test_a_used_blob_that_is_not_in_the_index_is_named(tmp_path: Path) -> None:
    outcome, *_ = check(PlainRepository(unpack("restic/repo-index-missing-blob.tar.gz", tmp_path), "geheim"))
    assert {kind for kind, _ in outcome.problems} <= {"MissingBlob", "MissingTree"}
    assert outcome.problems


def test_each_kind_of_damage_has_its_word() -> None:
    made = Made()
    missing, broken = "ab" * 32, made.blob("tree", b'{"nodes":[{"name":')
    tree = made.tree(
        node("", "fifo"),
        node("..", "fifo"),
        folder("a", missing),
        folder("b", broken),
        node("c", "dir", subtree=None),
        folder("d", "00" * 32),
        node("e", "file"),
        node("f", "file", content=[missing, "00" * 32]),
        node("g", "irregular"),
        node("h", ""),
        made.file("i", b"sound"),
        link("j", "x"),
        node("aa", "fifo"),
    )
    outcome, _ = made.check(tree, missing)
    assert sorted(kind for kind, _ in outcome.problems) == sorted(
        [
            "NamelessNode",
            "UnsafeName",
            "MissingTree",
            "MissingTree",
            "DamagedTree",
            "MissingSubtree",
            "MissingSubtree",
            "MissingContent",
            "MissingBlob",
            "MissingBlob",
            "UnknownType",
            "UnknownType",
            "UnsortedTree",
        ]
    )
    assert outcome.summary["trees"] == 2
    assert all(len(message) > 40 for _, message in outcome.problems)
    for kind, name in [("MissingTree", missing), ("DamagedTree", broken), ("MissingBlob", missing)]:
        assert any(name in message for found, message in outcome.problems if found == kind)


def test_unused_blobs_are_named_once_and_shared_trees_are_read_once() -> None:
    made = Made()
    shared = made.tree(made.file("x", b"used"))
    roots = [made.tree(folder("a", shared), folder(name, shared)) for name in "bcd"]
    stray = made.blob("data", b"stray"), made.tree(made.file("y", b"used"))
    made.seal()
    made.blob("data", b"stray")
    made.blob("data", b"used")
    outcome, run = made.check(*roots, *roots)
    assert outcome.problems == []
    assert outcome.summary == {"trees": 4, "blobs_used": 5}
    assert sorted(run.unused()) == sorted([("data", stray[0]), ("tree", stray[1])])
    assert len(set(outcome.fetched)) == 1


def test_a_tree_that_the_storage_refuses_is_a_problem() -> None:
    made = Made()
    tree = made.tree(folder("a", made.tree()))
    made.seal()
    made.packs.clear()
    outcome, _ = made.check(tree)
    assert [kind for kind, _ in outcome.problems] == ["DamagedTree"]
    assert "no such pack" in outcome.problems[0][1]


def test_many_trees_are_checked_in_few_fetches() -> None:
    made = Made()
    leaves = [folder(f"{n:05}", made.tree(made.file("f", str(n).encode()))) for n in range(5000)]
    tops = [folder(f"{n:03}", made.tree(*leaves[n * 100 : n * 100 + 100])) for n in range(50)]
    outcome, run = made.check(made.tree(*tops))
    assert outcome.problems == []
    assert outcome.summary == {"trees": 5051, "blobs_used": 10051}
    assert run.unused() == []
    assert len(outcome.fetched) < 20
