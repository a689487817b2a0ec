"""Listings and dumps walk trees in Python: in order, and as deep as a file system goes."""

from __future__ import annotations

from typing import Any, Literal

from lowtide_engine import _kernel as kernel
from lowtide_engine.trees import find_node, walk
from tests.unit.kernel.runs import Made, folder

DEEP = 3000


class Indexed:
    """A repository of which only trees are asked for."""

    def __init__(self, made: Made) -> None:
        made.seal()
        self.made = made

    def load_blob(self, kind: Literal["data", "tree"], blob: str) -> bytes:
        (place,) = self.made.index.locate(kind, blob)
        sealed = self.made.read(place.pack, place.offset, place.length)
        return kernel.open_blob(self.made.key, sealed, blob, place.uncompressed_length)


def test_folders_come_before_what_they_hold() -> None:
    made = Made()
    inner = made.tree(made.file("x", b"1"))
    root = made.tree(folder("a", inner), made.file("b", b"2"), folder("c", inner))
    indexed: Any = Indexed(made)

    assert [path for path, _ in walk(indexed, root)] == [b"/a", b"/a/x", b"/b", b"/c", b"/c/x"]
    assert [path for path, _ in walk(indexed, root, b"/p", enter=lambda _: False)] == [b"/p/a", b"/p/b", b"/p/c"]


def test_folders_deeper_than_the_interpreters_stack() -> None:
    made = Made()
    tree = made.tree(made.file("bottom", b"here"))
    for _ in range(DEEP):
        tree = made.tree(folder("d", tree))
    indexed: Any = Indexed(made)

    paths = [path for path, _ in walk(indexed, tree)]

    assert len(paths) == DEEP + 1
    assert paths[-1] == b"/d" * DEEP + b"/bottom"
    node = find_node(indexed, tree, paths[-1])
    assert node is not None
    assert node.size == 4
