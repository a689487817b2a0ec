"""Trees without some of what they hold, or mended: what rewrite and repair snapshots make.

Nodes keep their bytes but for what is changed, so that a tree that loses nothing keeps its id, and restic finds in the
others what it would have written itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lowtide_engine._kernel import KernelError, Node, decode_tree, encode_tree
from lowtide_engine.errors import RepositoryDamaged, RepositoryError
from lowtide_engine.repository.go_text import go_json

if TYPE_CHECKING:
    from lowtide_engine.repository import IndexedRepository

_HEAD, _TAIL = '{"nodes":[', "]}\n"
_DECODER = json.JSONDecoder()
_ORDER = (
    *("name", "type", "mode", "mtime", "atime", "ctime", "uid", "gid", "user", "group", "inode", "device_id", "size"),
    *("links", "linktarget", "linktarget_raw", "extended_attributes", "generic_attributes", "device", "content"),
    *("subtree", "error"),
)


class TreeForeign(RepositoryError):
    """A tree that says more than we would write again."""

    reason = "TreeForeign"
    default_hint = "leave this snapshot out"


@dataclass(slots=True)
class RawNode:
    """A node: decoded, and as the JSON text that the tree has."""

    node: Node
    text: str

    def edited(self, **changes: Any) -> str:
        """The text with other values for some keys, in restic's order, a zero left out. Where all are so already it
        stays as it is.
        """
        return edited(self.text, **changes)


def edited(text: str, **changes: Any) -> str:
    """As `RawNode.edited`, for the text of a node."""
    document: dict[str, Any] = json.loads(text)
    if all(document.get(key, 0) == value for key, value in changes.items()):
        return text
    document = {key: value for key, value in (document | changes).items() if value != 0 or key not in changes}
    known = [key for key in _ORDER if key in document]
    return go_json({key: document[key] for key in [*known, *(key for key in document if key not in _ORDER)]}).decode()


@dataclass(slots=True)
class Rules:
    """What becomes of nodes and folders; paths are raw, with a leading slash, "/" for the root.

    `node` gives the text that a node gets, or None to leave it out; for a folder, what it holds is looked through after
    that. `unreadable` is asked about a tree that can't be read: True for an empty folder in its place, False to leave
    the folder out; without it the error is raised. `keep_empty` is asked about a folder of which nothing stays.
    `foreign_too`: edit also trees of which something would be lost that isn't a node. `sound`, where paths don't matter
    to the rules, keeps the trees that stayed as they were, which are not looked through again.
    """

    node: Callable[[bytes, RawNode], str | None]
    keep_empty: Callable[[bytes], bool] = lambda _: True
    unreadable: Callable[[bytes, RepositoryDamaged], bool] | None = None
    foreign_too: bool = False
    sound: set[str] | None = None


@dataclass(slots=True)
class _Folder:
    """One folder while it is rewritten. `waiting` are its nodes that are still to come, `entries` those that stay."""

    path: bytes
    tree: str | None
    waiting: Iterator[RawNode]
    name: bytes = b""
    text: str = ""
    entries: list[tuple[bytes, bytes]] = field(default_factory=list)


def edit_tree(indexed: IndexedRepository, root: str, rules: Rules, store: Callable[[bytes], str]) -> str | None:
    """The tree `root` by the rules: its new id, or None where nothing of it stays. `store` takes each new tree, unless
    it is there, and gives its id.

    Folders may nest as deep as they like. Raises RepositoryDamaged, TreeForeign.
    """
    nodes = _load(indexed, root, b"/", rules)
    if nodes is None:
        return None
    open_folders = [_Folder(b"/", root, iter(nodes))]
    while True:
        folder = open_folders[-1]
        raw = next(folder.waiting, None)
        if raw is None:
            tree = _finished(folder, rules, store)
            open_folders.pop()
            if not open_folders:
                return tree
            if tree is not None:
                open_folders[-1].entries.append((folder.name, edited(folder.text, subtree=tree).encode()))
            continue
        path = folder.path.rstrip(b"/") + b"/" + raw.node.name
        text = rules.node(path, raw)
        if text is None:
            continue
        subtree = raw.node.subtree
        if raw.node.type != "dir" or (rules.sound is not None and subtree in rules.sound):
            folder.entries.append((raw.node.name, text.encode()))
            continue
        below = _load(indexed, subtree, path, rules)
        if below is not None:
            open_folders.append(_Folder(path, subtree, iter(below), raw.node.name, text))


def _finished(folder: _Folder, rules: Rules, store: Callable[[bytes], str]) -> str | None:
    if not folder.entries and not rules.keep_empty(folder.path):
        return None
    try:
        tree = store(encode_tree(folder.entries))
    except KernelError as error:
        shown = folder.path.decode(errors="backslashreplace")
        raise RepositoryDamaged(f"the folder {shown} can't be written: {error}") from None
    if rules.sound is not None and tree == folder.tree:
        rules.sound.add(tree)
    return tree


def _load(indexed: IndexedRepository, tree: str | None, path: bytes, rules: Rules) -> list[RawNode] | None:
    try:
        if tree is None:
            raise RepositoryDamaged(f"the folder {path.decode(errors='backslashreplace')} has no tree")
        nodes, rest = _raw_nodes(tree, indexed.load_blob("tree", tree))
    except RepositoryDamaged as error:
        if rules.unreadable is None:
            raise
        return [] if rules.unreadable(path, error) else None
    if rest and not rules.foreign_too:
        raise TreeForeign(
            f"the tree {tree[:8]} of {path.decode(errors='backslashreplace')} says more than what its files are, which "
            "would be lost"
        )
    return nodes


def _raw_nodes(tree: str, plaintext: bytes) -> tuple[list[RawNode], bool]:
    """The nodes of a tree, and whether it has more than them, or writes them in another way."""
    try:
        decoded = decode_tree(plaintext)
        text = plaintext.decode()
        texts = list(_texts(text)) if text.startswith(_HEAD) else []
        foreign = _HEAD + ",".join(texts) + _TAIL != text
        if foreign:
            texts = [go_json(node).decode() for node in json.loads(text)["nodes"]]
        nodes = [RawNode(node, raw) for node, raw in zip(decoded, texts, strict=True)]
    except (KernelError, ValueError, KeyError, TypeError) as error:
        raise RepositoryDamaged(f"tree {tree[:8]} can't be read: {error}") from None
    return nodes, foreign


def _texts(text: str) -> Iterator[str]:
    """Each node's JSON, as far as they follow one another as restic writes them."""
    position = len(_HEAD)
    while text.startswith("{", position):
        _, end = _DECODER.raw_decode(text, position)
        yield text[position:end]
        position = end + 1
