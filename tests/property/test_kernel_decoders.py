"""What the kernel decodes comes from wherever the repository is: any bytes, and any values in the right places, are
decoded or refused with a KernelError, and what was refused has left nothing behind.
"""

from __future__ import annotations

import contextlib
import copy
import json
import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lowtide_engine import _kernel as kernel
from tests.property.test_repository_decoders import json_values

KEY = kernel.Key(b"e" * 32, b"k" * 16, b"r" * 16)
NAME = "ab" * 32
BLOB = {"id": NAME, "type": "data", "offset": 0, "length": 100, "uncompressed_length": 300}
INDEX = {"supersedes": [NAME], "packs": [{"id": NAME, "blobs": [BLOB, {**BLOB, "id": "cd" * 32, "offset": 100}]}]}
NODE = {"name": "a", "type": "file", "mode": 420, "mtime": "2024-01-01T00:00:00Z", "uid": 0, "gid": 0, "inode": 1}
NODE |= {
    "device_id": 1,
    "size": 2,
    "links": 1,
    "content": [NAME],
    "extended_attributes": [{"name": "a", "value": "AA=="}],
}
TREE = {"nodes": [NODE, {**NODE, "name": "b", "type": "dir", "content": None, "subtree": NAME}]}

VALUES = json_values | st.sampled_from([-1, 2**31, 2**32, 2**63, 2**64, 1e300, "", NAME.upper(), NAME[:-1]])


def places(document: Any) -> list[tuple[Any, ...]]:
    """The way to every value within a document."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [(key, *rest) for key, value in inner for rest in [(), *places(value)]]


def changed(document: dict[str, Any], choice: st.DataObject) -> bytes:
    """The document's text with other values in some places."""
    body = copy.deepcopy(document)
    for _ in range(choice.draw(st.integers(1, 3))):
        *way, last = choice.draw(st.sampled_from(places(body) or [("x",)]))
        at: Any = body
        for key in way:
            at = at[key]
        at[last] = choice.draw(VALUES)
    return json.dumps(body, ensure_ascii=choice.draw(st.booleans())).encode("utf-8", "surrogatepass")


def decode_index(text: bytes) -> None:
    index = kernel.Index()
    try:
        index.add(NAME, text)
    except kernel.KernelError:
        assert len(index) == 0
        assert index.packs() == []
        return
    for pack in index.packs():
        # The blobs and a header: where they lie is believed only once the pack is read.
        assert index.pack_size(pack) > sum(entry.length for entry in index.pack_entries(pack))


@settings(max_examples=300)
@given(choice=st.data())
def test_an_index_with_any_values(choice: st.DataObject) -> None:
    decode_index(changed(INDEX, choice))


@settings(max_examples=100)
@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda junk: b'{"packs":[' + junk))
def test_any_bytes_as_an_index(text: bytes) -> None:
    decode_index(text)


@settings(max_examples=300)
@given(choice=st.data())
def test_a_tree_with_any_values(choice: st.DataObject) -> None:
    text = changed(TREE, choice)
    for decode in (kernel.decode_tree, kernel.reencode_tree):
        with contextlib.suppress(kernel.KernelError):
            decode(text)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=5))
def test_a_header_that_claims_anything(claims: list[tuple[int, int, int]]) -> None:
    """Lengths up to 4 GiB, kinds that there are not."""
    header = b"".join(
        struct.pack("<BII" if kind & 2 else "<BI", *((kind, length, plain) if kind & 2 else (kind, length))) + b"i" * 32
        for kind, length, plain in claims
    )
    try:
        entries = kernel.read_pack_header(KEY, KEY.seal(header))
    except kernel.KernelError:
        return
    assert [entry.length for entry in entries] == [length for _, length, _ in claims]
    assert all(kind < 4 for kind, _, _ in claims)


@settings(max_examples=100)
@given(st.binary(max_size=300), st.integers(0, 2**32 - 1), st.booleans())
def test_a_blob_of_any_bytes_that_claims_any_length(content: bytes, claimed: int, compressed: bool) -> None:
    stored = kernel.zstd_compress(content) if compressed else content
    name = kernel.sha256(content)
    right = claimed == len(content) if compressed and claimed else not compressed and not claimed
    try:
        assert kernel.open_blob(KEY, KEY.seal(stored), name, claimed) == content
    except kernel.KernelError:
        assert not right
