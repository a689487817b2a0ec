"""Key files of restic's and rustic's, bounds on what they may ask for, and the order in which they are tried."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from lowtide_engine.errors import BadInput, KeyMissing, RepositoryDamaged, RepositoryMissing, WrongPassword
from lowtide_engine.repository import KdfParameters, Password, Repository, open_repository
from lowtide_engine.repository.keys import KeyFile, find_key, load_key
from lowtide_engine.storage import File, FileKind, Storage
from lowtide_engine.storage.memory import MemoryStorage
from tests.fakes import FakeClock, FaultyStorage
from tests.unit.repository.conftest import CHEAP, PASSWORD


def document(**changes: object) -> bytes:
    fields: dict[str, object] = {"created": "2020-01-01T00:00:00Z", "username": "u", "hostname": "h", "kdf": "scrypt"}
    fields |= {"N": 128, "r": 1, "p": 1, "salt": base64.b64encode(bytes(64)).decode(), "data": "AAAA"}
    return json.dumps({key: value for key, value in (fields | changes).items() if value is not None}).encode()


def test_a_key_file_looks_as_restic_writes_it(repository: Repository, storage: Storage) -> None:
    [listed] = storage.list(FileKind.KEY)
    written = json.loads(storage.load(File(FileKind.KEY, listed.name)))
    assert [*written] == ["created", "username", "hostname", "kdf", "N", "r", "p", "salt", "data"]
    assert (written["kdf"], written["N"], written["r"], written["p"]) == ("scrypt", 128, 1, 1)
    assert len(base64.b64decode(written["salt"])) == 64


def test_what_rustic_leaves_out_is_optional() -> None:
    key = KeyFile.decode("ab" * 32, document(created=None, username=None, hostname=None))
    assert (key.created, key.username, key.hostname, key.kdf) == ("", "", "", CHEAP)


@pytest.mark.parametrize(
    "changes",
    [
        {"kdf": "argon2"},
        {"N": 0},
        {"N": 3},
        {"N": -2},
        {"N": 1},
        {"r": 0},
        {"p": 0},
        {"p": 17},
        {"N": 2**22, "r": 8},
        {"N": 2**62, "r": 1},
        {"N": 2, "r": 2**40},
        {"N": 2, "r": 2**18, "p": 16},
        {"N": 128.0},
        {"N": True},
        {"N": "128"},
        {"salt": base64.b64encode(bytes(63)).decode()},
        {"salt": "!"},
        {"salt": None},
        {"data": None},
        {"username": 5},
    ],
    ids=str,
)
def test_impossible_or_too_costly_keys_are_refused_before_any_work(changes: dict[str, object]) -> None:
    with pytest.raises(RepositoryDamaged):
        KeyFile.decode("ab" * 32, document(**changes))


@pytest.mark.parametrize("parameters", [(2**18, 8, 1), (2**15, 8, 16), (2**21, 1, 1)])
def test_what_is_just_within_the_bounds_is_taken(parameters: tuple[int, int, int]) -> None:
    assert KdfParameters(*parameters).n == parameters[0]


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{}", b"\xff", b'"x"'])
def test_what_is_no_key_file_is_refused(data: bytes) -> None:
    with pytest.raises(RepositoryDamaged):
        KeyFile.decode("ab" * 32, data)


def test_a_key_that_doesnt_hash_to_its_name_is_damaged(storage: Storage) -> None:
    storage.save(File(FileKind.KEY, "ab" * 32), document())
    with pytest.raises(RepositoryDamaged, match="hash"):
        load_key(storage, "ab" * 32)


def test_several_passwords_open_one_repository(repository: Repository, storage: Storage, clock: FakeClock) -> None:
    other = Password("another")
    name = repository.add_key(other, kdf=CHEAP, username="user", hostname="host")
    again = open_repository(storage, other, clock=clock)
    assert (again.id, again.key_name) == (repository.id, name)
    infos = {info.name: info for info in again.list_keys()}
    assert (infos[name].current, infos[name].username, infos[name].hostname) == (True, "user", "host")
    assert not infos[repository.key_name].current


def test_a_wrong_password_says_so_and_nothing_more(repository: Repository, storage: Storage) -> None:
    with pytest.raises(WrongPassword) as caught:
        find_key(storage, Password("hunter2"))
    assert caught.value.exit_code == 12
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_hint_is_tried_first(repository: Repository, storage: Storage) -> None:
    names = [repository.add_key(PASSWORD, kdf=CHEAP) for _ in range(5)]
    for name in names:
        assert find_key(storage, PASSWORD, hint=name[:12])[0] == name
    with pytest.raises(KeyMissing, match="no key begins"):
        find_key(storage, PASSWORD, hint="zz")
    with pytest.raises(KeyMissing, match="6 keys begin"):
        find_key(_same_beginning(6), PASSWORD, hint="a")


def _same_beginning(number: int) -> Storage:
    made = MemoryStorage()
    for digit in range(number):
        made.save(File(FileKind.KEY, f"a{digit}".ljust(64, "0")), b"{}")
    return made


def test_at_most_twenty_keys_are_tried(clock: FakeClock) -> None:
    storage = FaultyStorage(MemoryStorage())
    for number in range(25):
        data = document(username=str(number), data=base64.b64encode(bytes(range(1, 100))).decode())
        storage.save(File(FileKind.KEY, hashlib.sha256(data).hexdigest()), data)
    with pytest.raises(WrongPassword, match="5 were not tried"):
        find_key(storage, PASSWORD)
    assert storage.calls["load"] == 20


def test_a_damaged_key_doesnt_keep_another_from_opening(repository: Repository, storage: Storage) -> None:
    storage.save(File(FileKind.KEY, "0" * 64), b"rubbish")
    assert find_key(storage, PASSWORD)[0] == repository.key_name
    with pytest.raises(WrongPassword, match="00000000 doesn't hash"):
        find_key(storage, Password("x"))
    assert any(info.created.startswith("damaged") for info in repository.list_keys())


def test_no_keys_is_no_repository(storage: Storage) -> None:
    with pytest.raises(RepositoryMissing):
        find_key(storage, PASSWORD)


def test_the_password_is_changed_by_a_new_key_before_the_old_one_goes(
    repository: Repository, storage: Storage, clock: FakeClock
) -> None:
    old = repository.key_name
    new = repository.change_password(Password("new"), kdf=CHEAP)
    assert [listed.name for listed in storage.list(FileKind.KEY)] == [new]
    assert new != old
    assert open_repository(storage, Password("new"), clock=clock).id == repository.id
    with pytest.raises(WrongPassword):
        open_repository(storage, PASSWORD, clock=clock)


def test_the_key_in_use_is_not_removed(repository: Repository, storage: Storage) -> None:
    other = repository.add_key(Password("other"), kdf=CHEAP)
    with pytest.raises(BadInput, match="in use"):
        repository.remove_key(repository.key_name[:10])
    assert repository.remove_key(other[:10]) == other
    assert [listed.name for listed in storage.list(FileKind.KEY)] == [repository.key_name]


def test_two_who_remove_each_others_key_leave_one(repository: Repository, storage: Storage, clock: FakeClock) -> None:
    """Whoever opened the repository before the other took the lock holds a key that is gone."""
    repository.add_key(Password("other"), kdf=CHEAP)
    other = open_repository(storage, Password("other"), clock=clock)
    repository.remove_key(other.key_name)
    with pytest.raises(BadInput, match="was removed by somebody else"):
        other.remove_key(repository.key_name)
    assert [listed.name for listed in storage.list(FileKind.KEY)] == [repository.key_name]


def test_an_empty_password_is_refused(repository: Repository) -> None:
    with pytest.raises(BadInput, match="empty"):
        repository.add_key(Password(""), kdf=CHEAP)


def test_the_default_costs_what_the_design_says(tmp_path: Path, clock: FakeClock) -> None:
    from lowtide_engine.repository import DEFAULT_KDF

    assert (DEFAULT_KDF.n, DEFAULT_KDF.r, DEFAULT_KDF.p) == (131072, 8, 1)
