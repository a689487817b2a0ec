"""What `lowtide_engine.storage.base.Storage` says, sentence by sentence."""

from __future__ import annotations

import array
import contextlib
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from lowtide_engine.errors import FileMissing, FileShort
from lowtide_engine.storage import CONFIG, File, FileKind, Listed, Storage

NAMED = [kind for kind in FileKind if kind is not FileKind.CONFIG]
CONTENT = bytes(range(256)) * 40


def file_of(data: bytes, kind: FileKind = FileKind.DATA) -> File:
    return File(kind, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("file", [CONFIG, *(file_of(CONTENT, kind) for kind in NAMED)], ids=lambda f: f.kind.value)
def test_what_was_saved_is_loaded(storage: Storage, file: File) -> None:
    storage.save(file, CONTENT)
    assert storage.load(file) == CONTENT
    assert storage.stat(file) == len(CONTENT)


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        *((0, None), (1, None), (len(CONTENT) - 1, None), (len(CONTENT), None), (0, len(CONTENT)), (0, 1)),
        *((100, 300), (len(CONTENT) - 1, 1), (0, 0), (17, 0), (len(CONTENT), 0)),
    ],
)
def test_a_range_is_what_it_says(storage: Storage, offset: int, length: int | None) -> None:
    file = file_of(CONTENT)
    storage.save(file, CONTENT)
    assert storage.load(file, offset, length) == CONTENT[offset:][:length]


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        *((0, len(CONTENT) + 1), (len(CONTENT), 1), (len(CONTENT) + 1, 1), (len(CONTENT) + 1, 0)),
        *((5, len(CONTENT)), (len(CONTENT) * 2, 1), (len(CONTENT) - 1, 2)),
    ],
)
def test_a_range_beyond_the_end_is_an_error_and_not_less(storage: Storage, offset: int, length: int) -> None:
    file = file_of(CONTENT)
    storage.save(file, CONTENT)
    with pytest.raises(FileShort):
        storage.load(file, offset, length)


@pytest.mark.parametrize(("offset", "length"), [(-1, None), (0, -1), (-5, 5)])
def test_a_negative_range_is_a_mistake_of_the_caller(storage: Storage, offset: int, length: int | None) -> None:
    storage.save(CONFIG, CONTENT)
    with pytest.raises(ValueError, match="range"):
        storage.load(CONFIG, offset, length)


@pytest.mark.parametrize("file", [CONFIG, *(File(kind, "ab" * 32) for kind in NAMED)], ids=lambda f: f.kind.value)
def test_what_is_not_there_is_missing(storage: Storage, file: File) -> None:
    with pytest.raises(FileMissing):
        storage.load(file)
    with pytest.raises(FileMissing):
        storage.load(file, 3, 4)
    with pytest.raises(FileMissing):
        storage.stat(file)


@pytest.mark.parametrize(
    "data",
    [bytearray(CONTENT), memoryview(CONTENT)[3:70], memoryview(array.array("I", range(1000))), b""],
    ids=["bytearray", "part of a memoryview", "words", "nothing"],
)
def test_any_buffer_is_saved_as_its_bytes(storage: Storage, data: bytearray | memoryview | bytes) -> None:
    content = bytes(data)
    file = file_of(content)
    storage.save(file, data)
    assert storage.load(file) == content
    assert storage.stat(file) == len(content)
    assert [*storage.list(FileKind.DATA)] == [Listed(file.name, len(content))]


def test_a_whole_pack_comes_back(storage: Storage) -> None:
    content = os.urandom(17 * 1024 * 1024)
    file = file_of(content)
    storage.save(file, memoryview(content))
    assert hashlib.sha256(storage.load(file)).hexdigest() == file.name
    assert storage.load(file, 9_000_001, 8_000_000) == content[9_000_001:17_000_001]


def test_saving_again_changes_nothing(storage: Storage) -> None:
    file = file_of(CONTENT)
    for _ in range(3):
        storage.save(file, CONTENT)
    assert storage.load(file) == CONTENT
    assert [*storage.list(FileKind.DATA)] == [Listed(file.name, len(CONTENT))]


def test_the_config_can_be_written_anew(storage: Storage) -> None:
    storage.save(CONFIG, b"version 1")
    storage.save(CONFIG, b"version 2, longer")
    assert storage.load(CONFIG) == b"version 2, longer"


def test_a_listing_has_every_file_of_its_kind_and_no_other(storage: Storage) -> None:
    expected: dict[FileKind, set[Listed]] = {}
    storage.save(CONFIG, b"config")
    for kind in NAMED:
        for number in range(5):
            data = f"{kind} {number}".encode() * (number + 1)
            storage.save(file_of(data, kind), data)
            expected.setdefault(kind, set()).add(Listed(file_of(data, kind).name, len(data)))
    for kind in NAMED:
        listed = [*storage.list(kind)]
        assert len(listed) == len(set(listed))
        assert set(listed) == expected[kind]
    assert [*storage.list(FileKind.CONFIG)] == []


def test_an_empty_storage_lists_nothing(storage: Storage) -> None:
    assert [[*storage.list(kind)] for kind in FileKind] == [[] for _ in FileKind]


def test_a_long_listing_is_whole(storage: Storage) -> None:
    contents = [str(number).encode() for number in range(1100)]
    with ThreadPoolExecutor(storage.connections) as pool:
        [*pool.map(lambda data: storage.save(file_of(data, FileKind.LOCK), data), contents)]
    listed = [entry.name for entry in storage.list(FileKind.LOCK)]
    assert sorted(listed) == sorted(hashlib.sha256(data).hexdigest() for data in contents)


def test_what_is_deleted_is_gone_and_the_rest_stays(storage: Storage) -> None:
    kept, gone = file_of(b"kept", FileKind.LOCK), file_of(b"gone", FileKind.LOCK)
    storage.save(kept, b"kept")
    storage.save(gone, b"gone")
    storage.delete(gone)
    with pytest.raises(FileMissing):
        storage.stat(gone)
    assert [*storage.list(FileKind.LOCK)] == [Listed(kept.name, 4)]
    assert storage.load(kept) == b"kept"


def test_deleting_what_is_not_there_says_so_or_does_nothing(storage: Storage) -> None:
    storage.save(file_of(b"kept"), b"kept")
    with contextlib.suppress(FileMissing):
        storage.delete(File(FileKind.DATA, "cd" * 32))
    assert storage.load(file_of(b"kept")) == b"kept"


def test_creating_again_keeps_what_is_there(storage: Storage) -> None:
    storage.save(CONFIG, b"config")
    storage.create()
    assert storage.load(CONFIG) == b"config"


def test_many_threads_at_once(storage: Storage) -> None:
    contents = [os.urandom(5000 + number) for number in range(64)]

    def there_and_back(data: bytes) -> bool:
        storage.save(file_of(data), data)
        return storage.load(file_of(data)) == data and storage.stat(file_of(data)) == len(data)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, contents))
    assert len([*storage.list(FileKind.DATA)]) == len(contents)


def test_its_connections_are_a_number_to_rely_on(storage: Storage) -> None:
    assert 1 <= storage.connections <= 64


def test_closing_twice_is_no_mistake(storage: Storage) -> None:
    storage.close()
    storage.close()
