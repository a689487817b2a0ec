"""Looking into trees from Python, for listings, searches and dumps. What must be fast walks trees in the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lowtide_engine._kernel import KernelError, Node, decode_tree
from lowtide_engine.errors import EngineError, RepositoryDamaged

if TYPE_CHECKING:
    from lowtide_engine.repository import IndexedRepository


class PathMissing(EngineError):
    """A snapshot has no such file or folder."""

    reason = "PathMissing"
    default_hint = "`lowtide ls` lists what there is"


def load_tree(indexed: IndexedRepository, tree: str) -> list[Node]:
    """The nodes of a tree, in their order. Raises RepositoryDamaged."""
    try:
        return decode_tree(indexed.load_blob("tree", tree))
    except KernelError as error:
        raise RepositoryDamaged(f"tree {tree[:8]} can't be read: {error}") from None


def find_node(indexed: IndexedRepository, root: str, path: bytes) -> Node | None:
    """The node at `path` below the tree `root`, or None for the root itself. Raises PathMissing."""
    node: Node | None = None
    tree: str | None = root
    for name in [part for part in path.split(b"/") if part and part != b"."]:
        children = load_tree(indexed, tree) if tree is not None else []
        node = next((child for child in children if child.name == name), None)
        if node is None:
            raise PathMissing(f"there is no {path.decode(errors='backslashreplace')} in the snapshot")
        tree = node.subtree if node.type == "dir" else None
    return node


def find_tree(indexed: IndexedRepository, root: str, path: bytes) -> str:
    """The tree of the folder at `path` below the tree `root`. Raises PathMissing, also where it is no folder."""
    node = find_node(indexed, root, path)
    if node is None:
        return root
    if node.subtree is None:
        raise PathMissing(f"{path.decode(errors='backslashreplace')} is no folder")
    return node.subtree


def walk(
    indexed: IndexedRepository, tree: str, prefix: bytes = b"", *, enter: Callable[[bytes], bool] = lambda _: True
) -> Iterator[tuple[bytes, Node]]:
    """Every path below a tree with its node, folders before what they hold; what is in a folder only where `enter` says
    so of its path.

    Folders may nest as deep as they like: what is open is kept in a list, not on the interpreter's stack.
    """
    open_folders = [(prefix, iter(load_tree(indexed, tree)))]
    while open_folders:
        above, nodes = open_folders[-1]
        node = next(nodes, None)
        if node is None:
            open_folders.pop()
            continue
        path = above + b"/" + node.name
        yield path, node
        if node.type == "dir" and node.subtree is not None and enter(path):
            open_folders.append((path, iter(load_tree(indexed, node.subtree))))


def permissions(node: Node) -> str:
    """Type and rights as `ls -l` shows them, from the node's mode (Go's FileMode, restic-format 1.9)."""
    mode = node.mode
    kind = {"dir": "d", "symlink": "L", "dev": "D", "chardev": "Dc", "fifo": "p", "socket": "S"}.get(node.type, "")
    special = "".join(letter for bit, letter in ((23, "u"), (22, "g")) if mode & (1 << bit))
    sticky = "t" if mode & (1 << 20) else ""
    rights = "".join(letter if mode & (1 << (8 - i)) else "-" for i, letter in enumerate("rwxrwxrwx"))
    return f"{kind}{special}{sticky}" + rights if kind or special or sticky else "-" + rights
