"""No bytes make a decoder do anything but decode them or say that they are damaged: they come from wherever the
repository is.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lowtide_engine.errors import RepositoryDamaged, RepositoryUnsupported
from lowtide_engine.repository import Config, Instant, LockFile, Snapshot
from lowtide_engine.repository.keys import KeyFile
from lowtide_engine.repository.sealing import OVERHEAD, MasterKey
from lowtide_engine.repository.unpacked import UnpackedFiles
from lowtide_engine.storage import File, FileKind
from lowtide_engine.storage.memory import MemoryStorage

NAME = "ab" * 32
KEY = MasterKey(b"e" * 32, b"k" * 16, b"r" * 16)
FILES = UnpackedFiles(MemoryStorage(), KEY, 2)

GOOD: dict[str, tuple[Callable[[bytes], object], dict[str, object]]] = {
    "config": (Config.decode, {"version": 2, "id": NAME, "chunker_polynomial": "3da3358b4dc173", "is_hot": False}),
    "key": (
        lambda data: KeyFile.decode(NAME, data),
        {"created": "", "username": "", "hostname": "", "kdf": "scrypt", "N": 128, "r": 1, "p": 1}
        | {"salt": base64.b64encode(bytes(64)).decode(), "data": "AAAA"},
    ),
    "lock": (
        lambda data: LockFile.decode(NAME, data),
        {"time": "2024-01-01T00:00:00Z", "exclusive": True, "hostname": "h", "username": "u", "pid": 1, "uid": 1},
    ),
    "snapshot": (
        lambda data: Snapshot.decode(NAME, data),
        {"time": "2024-01-01T00:00:00Z", "tree": NAME, "paths": ["/"], "hostname": "h", "tags": ["a"], "uid": 1}
        | {"summary": {"files_new": 1}},
    ),
    "master key": (MasterKey.from_json, json.loads(KEY.to_json())),
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", GOOD)
@given(data=st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=100)
def test_any_bytes(kind: str, data: bytes) -> None:
    decode, _ = GOOD[kind]
    with contextlib.suppress(RepositoryDamaged, RepositoryUnsupported):
        decode(data)


@pytest.mark.parametrize("kind", GOOD)
@given(choice=st.data())
@settings(max_examples=200)
def test_any_value_in_any_field(kind: str, choice: st.DataObject) -> None:
    decode, good = GOOD[kind]
    field = choice.draw(st.sampled_from([*good]))
    with contextlib.suppress(RepositoryDamaged, RepositoryUnsupported):
        decode(json.dumps(good | {field: choice.draw(json_values)}).encode())


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=200)
def test_any_sealed_content(inner: bytes, compressed: bool) -> None:
    file = File(FileKind.INDEX, NAME)
    with contextlib.suppress(RepositoryDamaged):
        FILES.decode(file, KEY.seal(b"\x02" + inner if compressed else inner))


@given(st.binary(max_size=300))
def test_what_was_not_sealed_with_the_key_never_unseals(data: bytes) -> None:
    with pytest.raises(RepositoryDamaged):
        KEY.unseal(data)


@given(st.binary(max_size=5000))
def test_what_was_sealed_unseals(data: bytes) -> None:
    sealed = KEY.seal(data)
    assert len(sealed) == len(data) + OVERHEAD
    assert KEY.unseal(sealed) == data


@given(st.binary(max_size=5000).map(lambda data: b"{" + data))
def test_documents_come_back(data: bytes) -> None:
    assert FILES.decode(File(FileKind.INDEX, NAME), FILES.encode(data)) == data


@given(st.datetimes(timezones=st.timezones()))
def test_times_come_back(moment: datetime) -> None:
    offset = moment.utcoffset()
    assume(offset is not None and offset.total_seconds() % 60 == 0)  # Go's text has no seconds of an offset either
    instant = Instant.of(moment)
    again = Instant.parse(str(instant))
    assert again == instant
    assert again.datetime() == moment.astimezone(UTC)


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_not(text: str) -> None:
    with contextlib.suppress(RepositoryDamaged):
        Instant.parse(text)
