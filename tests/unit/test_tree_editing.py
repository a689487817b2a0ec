"""Trees that are edited keep every byte that isn't meant to change."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide_engine._kernel import decode_tree, encode_tree, reencode_tree, sha256
from lowtide_engine.errors import RepositoryDamaged
from lowtide_engine.repository import IndexedRepository
from lowtide_engine.repository.go_text import go_json
from lowtide_engine.tree_editing import RawNode, Rules, TreeForeign, edit_tree, edited

FILE = {
    "type": "file",
    "mode": 420,
    "mtime": "2020-01-01T00:00:00.5Z",
    "atime": "2020-01-01T00:00:00.5Z",
    "ctime": "2020-01-01T00:00:00.5Z",
    "uid": 1000,
    "gid": 1000,
    "inode": 7,
    "size": 10,
    "links": 1,
    "content": ["ab" * 32],
}
FOLDER = {**{key: FILE[key] for key in ("mode", "mtime", "atime", "ctime", "uid", "gid")}, "content": None}


class Trees:
    """A repository of trees only, by their ids."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    def put(self, plaintext: bytes) -> str:
        self.stored[sha256(plaintext)] = plaintext
        return sha256(plaintext)

    def folder(self, children: dict[str, Any]) -> str:
        """Store nested folders; a child that is no dict is a file of that size."""
        entries = []
        for name, child in sorted(children.items(), key=lambda item: item[0].encode()):
            below = {"subtree": self.folder(child)} if isinstance(child, dict) else {}
            node = {"name": name, "type": "dir", **FOLDER, **below} if below else {"name": name, **FILE, "size": child}
            entries.append((name.encode(), go_json(node)))
        return self.put(encode_tree(entries))

    def load_blob(self, kind: str, blob: str) -> bytes:
        if kind != "tree" or blob not in self.stored:
            raise RepositoryDamaged(f"{kind} blob {blob[:8]} is not in the index")
        return self.stored[blob]

    def edit(self, root: str, rules: Rules) -> str | None:
        return edit_tree(cast("IndexedRepository", self), root, rules, self.put)

    def paths(self, root: str, above: str = "") -> list[str]:
        found = []
        for node in decode_tree(self.stored[root]):
            found.append(f"{above}/{node.name.decode()}")
            if node.subtree is not None:
                found += self.paths(node.subtree, found[-1])
        return found


def keep(_: bytes, raw: RawNode) -> str:
    return raw.text


def without(*paths: bytes) -> Rules:
    return Rules(lambda path, raw: None if path in paths else raw.text)


@pytest.fixture
def trees() -> Trees:
    return Trees()


NAMES = st.text(
    st.characters(codec="ascii", exclude_characters='/\\"', min_codepoint=33, max_codepoint=126), min_size=1
)
FOLDERS = st.recursive(
    st.dictionaries(NAMES, st.integers(1, 9), max_size=4),
    lambda below: st.dictionaries(NAMES, st.one_of(st.integers(1, 9), below), max_size=4),
)


@given(FOLDERS)
def test_a_tree_of_which_all_stays_keeps_its_id(children: dict[str, Any]) -> None:
    trees = Trees()
    root = trees.folder(children)

    assert trees.edit(root, Rules(keep)) == root


@given(FOLDERS, st.data())
def test_what_is_left_out_is_all_that_is_missing(children: dict[str, Any], data: st.DataObject) -> None:
    trees = Trees()
    root = trees.folder(children)
    paths = trees.paths(root)
    gone = data.draw(st.sets(st.sampled_from(paths))) if paths else set()

    left = trees.edit(root, without(*(path.encode() for path in gone)))

    assert left is not None
    expected = [path for path in paths if not any(f"{path}/".startswith(f"{one}/") for one in gone)]
    assert trees.paths(left) == expected
    assert all(reencode_tree(plaintext) == plaintext for plaintext in trees.stored.values())


def test_folders_may_nest_deeper_than_the_interpreter_calls(trees: Trees) -> None:
    root = trees.put(encode_tree([]))
    for _ in range(3000):
        root = trees.put(encode_tree([(b"d", go_json({"name": "d", "type": "dir", **FOLDER, "subtree": root}))]))

    assert trees.edit(root, Rules(keep)) == root


def test_empty_folders_go_where_they_are_not_kept(trees: Trees) -> None:
    root = trees.folder({"a": {"b": {"gone": 1}, "stays": 2}, "c": {"gone": 1}})

    def rules(keep_empty: Any) -> Rules:
        return Rules(lambda path, raw: None if path.endswith(b"gone") else raw.text, keep_empty=keep_empty)

    left = trees.edit(root, rules(lambda path: path == b"/c"))
    assert left is not None
    assert trees.paths(left) == ["/a", "/a/stays", "/c"]
    assert trees.edit(trees.folder({"gone": 1}), rules(lambda _: False)) is None


def test_a_tree_that_can_not_be_read_is_replaced_left_out_or_an_error(trees: Trees) -> None:
    root = trees.folder({"a": {"inside": 1}, "b": {"other": 1}})
    (lost,) = (node.subtree for node in decode_tree(trees.stored[root]) if node.name == b"a")
    del trees.stored[str(lost)]

    with pytest.raises(RepositoryDamaged):
        trees.edit(root, Rules(keep))
    emptied, removed = (trees.edit(root, Rules(keep, unreadable=lambda *_, kept=kept: kept)) for kept in (True, False))
    assert emptied is not None
    assert removed is not None
    assert trees.paths(emptied) == ["/a", "/b", "/b/other"]
    assert trees.paths(removed) == ["/b", "/b/other"]


def test_a_sound_tree_is_looked_through_once(trees: Trees) -> None:
    root = trees.folder({"a": {"same": 1}, "b": {"same": 1}})
    seen: list[bytes] = []

    def node(path: bytes, raw: RawNode) -> str:
        seen.append(path)
        return raw.text

    assert trees.edit(root, Rules(node, sound=set())) == root
    assert seen == [b"/a", b"/a/same", b"/b"]


def test_keys_that_we_do_not_know_stay_in_nodes_and_are_refused_beside_them(trees: Trees) -> None:
    text = json.dumps({"name": "f", **FILE, "future": {"x": 1.5}}, separators=(",", ":"))
    known = trees.put(f'{{"nodes":[{text}]}}\n'.encode())
    other = trees.put(f'{{"nodes":[{text}],"future":1}}\n'.encode())

    assert trees.edit(known, Rules(keep)) == known
    with pytest.raises(TreeForeign, match="would be lost"):
        trees.edit(other, Rules(keep))
    assert trees.edit(other, Rules(keep, foreign_too=True)) == known


@pytest.mark.parametrize("plaintext", [b"", b"{}", b'{"nodes":null}', b'{"nodes":[{"name":"a"},]}\n', b"\xff"])
def test_what_is_no_tree_is_damage(plaintext: bytes, trees: Trees) -> None:
    with pytest.raises(RepositoryDamaged):
        trees.edit(trees.put(plaintext), Rules(keep))


def test_changed_values_stand_where_restic_writes_them() -> None:
    text = go_json({"name": "f", **{key: value for key, value in FILE.items() if key != "size"}}).decode()

    assert edited(text, size=0, content=FILE["content"]) == text
    sized = edited(text, size=10)
    assert sized == go_json({"name": "f", **FILE}).decode()
    assert edited(sized, size=0) == text
