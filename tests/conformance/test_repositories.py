"""Passwords, and repositories that are missing, half there, locked, or have foreign files in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lowtide_engine.repository import Password, open_repository
from lowtide_engine.storage import StorageOptions, SystemClock, open_storage
from tests.conformance.actors import PASSWORD, Lowtide, Restic
from tests.conformance.pruning import files
from tests.conformance.quick import make_repository
from tests.conformance.rights import without_capabilities, without_room
from tests.conformance.trees import make_plain_tree

pytestmark = pytest.mark.oracle


def reason(lowtide: Lowtide) -> str:
    assert lowtide.result is not None
    return lowtide.result.reason


def test_passwords_by_either_open_for_both(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    lowtide.run("init")
    (tmp_path / "second").write_text("second password\n")
    (tmp_path / "third").write_text("third password")
    lowtide.run("key", "add", "--new-password-file", tmp_path / "second")
    restic.run("key", "add", "--new-password-file", tmp_path / "third")

    for password in ("second password", "third password"):
        assert restic.run("snapshots", extra={"RESTIC_PASSWORD": password}).code == 0
        assert lowtide.run("snapshots", extra={"RESTIC_PASSWORD": password}).code == 0
    ours, theirs = (json.loads(actor.run("key", "list", "--json").out) for actor in (lowtide, restic))
    assert {key["id"]: key["current"] for key in ours} == {key["id"]: key["current"] for key in theirs}


def test_a_password_is_changed_and_removed(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    lowtide.run("init")
    (tmp_path / "new").write_text("new password")
    lowtide.run("key", "passwd", "--new-password-file", tmp_path / "new")

    lowtide.run("snapshots", code=12)
    restic.run("snapshots", code=12)
    restic.run("snapshots", extra={"RESTIC_PASSWORD": "new password"})
    (current,) = (path.name for path in Path(lowtide.repository, "keys").iterdir())
    lowtide.run("key", "remove", current, code=1, extra={"RESTIC_PASSWORD": "new password"})
    assert reason(lowtide) == "BadInput"


def test_a_new_password_says_whose_it_is(lowtide: Lowtide, restic: Restic, place: str, tmp_path: Path) -> None:
    make_repository(place)
    (tmp_path / "new").write_text("new password")
    lowtide.run("key", "passwd", "--host", "there", "--user", "somebody", "--new-password-file", tmp_path / "new")

    (key,) = json.loads(restic.run("key", "list", "--json", extra={"RESTIC_PASSWORD": "new password"}).out)
    assert (key["hostName"], key["userName"]) == ("there", "somebody")


def test_a_repository_without_a_password_wants_that_said(lowtide: Lowtide, restic: Restic, tmp_path: Path) -> None:
    """Both may make one, give it a password, and take that away again."""
    (tmp_path / "password").write_text(PASSWORD)
    nothing, none = {"RESTIC_PASSWORD": ""}, "--insecure-no-password"
    for actor, other in ((lowtide, restic), (restic, lowtide)):
        actor.run("init", none, extra=nothing)
        assert other.run("snapshots", none, extra=nothing)
        lowtide.run("snapshots", code=1, extra=nothing)
        assert reason(lowtide) == "CredentialsMissing"
        lowtide.run("snapshots", none, code=1)
        assert reason(lowtide) == "CredentialsMissing"
        actor.run("key", "passwd", none, "--new-password-file", tmp_path / "password", extra=nothing)
        lowtide.run("snapshots", none, code=12, extra=nothing)
        actor.run("key", "add", "--new-insecure-no-password")
        assert other.run("snapshots", none, extra=nothing)
        lowtide.run("key", "passwd", "--new-insecure-no-password", "--new-password-file", tmp_path / "password", code=1)
        shutil.rmtree(lowtide.repository)


def test_the_master_key_is_printed_on_request(lowtide: Lowtide, restic: Restic, place: str) -> None:
    make_repository(place)

    assert lowtide.run("cat", "masterkey").out == restic.run("cat", "masterkey").out
    lowtide.run("cat", "masterkey", "abcd", code=1)


def test_where_there_is_none(lowtide: Lowtide, tmp_path: Path) -> None:
    for command in (["snapshots"], ["backup", tmp_path], ["check"], ["restore", "latest", "--target", tmp_path / "x"]):
        lowtide.run(*command, code=10)
        assert reason(lowtide) == "RepositoryMissing"
    assert not Path(lowtide.repository).exists()


def test_init_refuses_a_repository_and_remains_of_one(lowtide: Lowtide, restic: Restic, place: str) -> None:
    restic.run("init")
    lowtide.run("init", code=1)
    assert reason(lowtide) == "RepositoryExists"
    (Path(place) / "config").unlink()
    lowtide.run("init", code=1)
    assert reason(lowtide) == "RepositoryExists"
    lowtide.run("snapshots", code=10)


def without_keys(place: Path) -> None:
    shutil.rmtree(place / "keys")


def with_half_a_key(place: Path) -> None:
    (key,) = (place / "keys").iterdir()
    key.chmod(0o600)
    key.write_bytes(key.read_bytes()[:100])


def with_half_a_config(place: Path) -> None:
    (place / "config").chmod(0o600)
    (place / "config").write_bytes((place / "config").read_bytes()[:50])


def with_an_empty_config(place: Path) -> None:
    (place / "config").chmod(0o600)
    (place / "config").write_bytes(b"")


def of_another_program(place: Path) -> None:
    shutil.rmtree(place)
    place.mkdir()
    (place / "config").write_text("[repository]\nversion = 1\n")


@pytest.mark.parametrize(
    ("half", "code", "expected", "said"),
    [
        (without_keys, 10, "RepositoryMissing", "no keys"),
        (with_half_a_key, 12, "WrongPassword", "can't be read"),
        (with_half_a_config, 1, "RepositoryDamaged", "the config"),
        (with_an_empty_config, 1, "RepositoryDamaged", "the config"),
        (of_another_program, 10, "RepositoryMissing", "no repository of restic's format"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_half_a_repository_is_told_as_such_and_left_alone(
    half: Callable[[Path], None], code: int, expected: str, said: str, lowtide: Lowtide, place: str, tmp_path: Path
) -> None:
    make_repository(place)
    half(Path(place))
    before = files(Path(place))

    for command in (["snapshots"], ["check"], ["backup", tmp_path], ["preflight"]):
        ran = lowtide.run(*command, code=code)
        assert reason(lowtide) == expected
        assert said in ran.err
        assert "copy" in ran.err
    lowtide.run("init", code=1)
    assert reason(lowtide) == "RepositoryExists"
    assert files(Path(place)) == before


def test_foreign_files_are_passed_over(lowtide: Lowtide, restic: Restic, place: str, tmp_path: Path) -> None:
    make_plain_tree(tmp_path / "source")
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)
    for folder in ("snapshots", "index", "locks", "keys", "data", "data/00", ""):
        (Path(place) / folder / ".DS_Store").write_text("not ours")
        (Path(place) / folder / f"{'a' * 64}-tmp-123").write_text("half written")

    lowtide.run("check", "--read-data")
    assert lowtide.backup("source", cwd=tmp_path)["data_added"] == 0
    lowtide.run("restore", "latest", "--target", tmp_path / "back")
    lowtide.run("unlock")
    restic.run("check")


def test_a_damaged_index_file_is_named_and_stops_what_would_write(lowtide: Lowtide, place: str, tmp_path: Path) -> None:
    make_plain_tree(tmp_path / "source")
    lowtide.run("init")
    lowtide.backup("source", cwd=tmp_path)
    (damaged,) = (Path(place) / "index").iterdir()
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")

    ran = lowtide.run("check", code=1, extra={"RESTIC_CACHE_DIR": str(tmp_path / "no cache")})
    assert damaged.name[:8] in ran.err
    ran = lowtide.run("backup", "--no-cache", "source", code=1, cwd=tmp_path)
    assert damaged.name[:8] in ran.err
    assert reason(lowtide) == "RepositoryDamaged"


def test_a_damaged_snapshot_is_in_nobodys_way_but_its_own(
    lowtide: Lowtide, restic: Restic, place: str, tmp_path: Path
) -> None:
    """What only reads passes over it and says so, unless it may be what was asked for; restic does so too. So does a
    backup, which restic refuses: what is there now is stored, whatever befell what was there before."""
    make_plain_tree(tmp_path / "source")
    lowtide.run("init")
    good, bad = (lowtide.backup("source", cwd=tmp_path)["snapshot_id"] for _ in range(2))
    damaged = Path(place) / "snapshots" / bad
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    lowtide.environment["RESTIC_CACHE_DIR"] = str(tmp_path / "no cache")
    target = tmp_path / "target"

    restic.run("restore", good, "--no-cache", "--target", target)
    for command in (
        ["restore", good[:8], "--target", target],
        ["ls", good],
        ["dump", good, "/source/large"],
        ["diff", good, f"{good[:8]}:/"],
        ["stats", good],
        ["stats"],
        ["find", "large"],
        ["cat", "tree", f"{good}:/source"],
        ["preflight", "--snapshot", good],
        ["preflight"],
        ["snapshots"],
    ):
        ran = lowtide.run(*command)
        assert bad[:8] in ran.err or command[0] in ("cat", "preflight"), command
    assert [entry["id"] for entry in json.loads(lowtide.run("snapshots", "--json").out)] == [good]
    for command in (
        ["restore", "latest", "--target", target],
        ["ls", "latest"],
        ["dump", bad[:8], "/source/large"],
        ["stats", bad],
        ["preflight", "--host", "a"],
        ["forget", bad[:8]],
        ["forget", "--keep-last", "1"],
        ["backup", "--parent", bad[:8], tmp_path / "source"],
        ["verdict", "--host", "shop", "--run", "r1", "--member", bad],
    ):
        lowtide.run(*command, code=1)
        assert reason(lowtide) == "RepositoryDamaged", command

    run = ["--host", "shop", "--run", "r1"]
    member = lowtide.backup("--quiet", *run, tmp_path / "source")["snapshot_id"]
    assert lowtide.result is not None
    assert [bad[:8] in warning for warning in lowtide.result.warnings] == [True]
    assert bad[:8] in lowtide.run("verdict", *run, "--member", member).err

    lowtide.run("forget", bad, "--dry-run")
    assert damaged.exists()
    assert bad[:8] in lowtide.run("forget", bad).err
    assert not damaged.exists()
    restic.run("check", "--no-cache")


def test_a_repository_that_may_not_be_written_says_so_and_can_be_read(
    lowtide: Lowtide, place: str, tmp_path: Path
) -> None:
    lowtide.run("init")
    (Path(place) / "locks").chmod(0o500)

    lowtide.run("backup", tmp_path, code=1, limit=without_capabilities)

    assert reason(lowtide) == "StorageRefused"
    lowtide.run("snapshots", "--no-lock", limit=without_capabilities)


def test_a_disk_that_takes_no_more_says_so_and_nothing_half_is_published(
    lowtide: Lowtide, restic: Restic, place: str, tmp_path: Path
) -> None:
    """A save fails half-way, as on a full disk: no temporary file, no index, no snapshot, no lock stays."""
    make_plain_tree(tmp_path / "source")
    lowtide.run("init")

    ran = lowtide.run("backup", "--no-cache", "source", code=1, cwd=tmp_path, limit=without_room)

    assert reason(lowtide) == "StorageFailed"
    assert "could not save data/" in ran.err
    assert restic.snapshots() == []
    assert not [path for path in Path(place).rglob("*") if "-tmp-" in path.name or path.parent.name == "locks"]
    lowtide.backup("source", cwd=tmp_path)
    restic.run("check", "--read-data")


def test_a_dead_holders_lock_goes_and_no_other(lowtide: Lowtide, restic: Restic, tmp_path: Path, place: str) -> None:
    """The operator names a pod whose container ended: its locks are removed, those of others stay."""
    lowtide.run("init")

    def leave(holder: str, *, exclusive: bool) -> None:
        storage = open_storage(place, StorageOptions(), clock=SystemClock())
        environment = {"LOWTIDE_HOLDER": holder}
        repository = open_repository(storage, Password(PASSWORD), clock=SystemClock(), environment=environment)
        repository.locks.acquire(exclusive=exclusive)

    leave("c1.shop.pod-1", exclusive=True)
    lowtide.run("preflight", code=11)
    lowtide.run("preflight", "--dead-holder", "c1.shop.pod-2", code=11)
    lowtide.run("preflight", "--dead-holder", "c1.shop.pod-1")
    leave("c1.shop.pod-3", exclusive=False)
    lowtide.run("unlock", "--dead-holder", "c1.shop.pod-1")
    assert len(restic.list_ids("locks")) >= 1
    lowtide.run("unlock", "--dead-holder", "c1.shop.pod-3")
    assert not list((Path(place) / "locks").iterdir())
