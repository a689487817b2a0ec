"""The commands as movers give them: preflight, backup, look-up, verdict, restore with deletion, forget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.actors import PASSWORD, Lowtide, Restic
from tests.conformance.trees import describe, differences, make_plain_tree

pytestmark = pytest.mark.oracle
OWNER = ("--cluster", "c1", "--namespace", "shop", "--policy", "nightly")


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    for seed, claim in enumerate(("data", "media")):
        make_plain_tree(tmp_path / "volumes" / claim, seed=seed)
    return tmp_path / "volumes"


def member(lowtide: Lowtide, volumes: Path, claim: str, run: str, *more: str, code: int = 0) -> str:
    """Back up one claim of a run; gives the snapshot's id."""
    arguments = [*("--host", "shop/nightly"), *OWNER, "--run", run, "--claim", claim, "--refuse-empty", *more]
    return str(lowtide.backup(volumes / claim, *arguments, code=code)["snapshot_id"])


def verdict(lowtide: Lowtide, run: str, *members: str, code: int = 0) -> str:
    words = [word for id_ in members for word in ("--member", id_)]
    lowtide.run("verdict", "--host", "shop/nightly", *OWNER, "--run", run, *words, "--json", code=code)
    assert lowtide.result is not None
    return next(iter(lowtide.result.snapshot_ids), "")


def reason(lowtide: Lowtide) -> str:
    assert lowtide.result is not None
    return lowtide.result.reason


def test_preflight_creates_once_and_reports_the_same_id(lowtide: Lowtide, restic: Restic) -> None:
    lowtide.run("preflight", code=10)
    lowtide.run("preflight", "--init")
    first = lowtide.result
    lowtide.run("preflight", "--init", "--json")
    second = lowtide.result

    assert first is not None
    assert second is not None
    assert first.repository_id == second.repository_id == json.loads(restic.run("cat", "config").out)["id"]
    assert restic.list_ids("locks") == set()


def test_preflight_makes_no_repository_over_the_remains_of_one(lowtide: Lowtide, place: str) -> None:
    lowtide.run("init")
    (Path(place) / "config").unlink()

    lowtide.run("preflight", "--init", code=10)

    assert not (Path(place) / "config").exists()


def test_another_repository_is_refused_before_anything_is_written(
    lowtide: Lowtide, restic: Restic, volumes: Path
) -> None:
    lowtide.run("init")
    other = "0" * 64
    for command in (["preflight"], ["preflight", "--init"], ["backup", volumes / "data"], ["forget", "abcd"]):
        lowtide.run(*command, "--expect-repository", other, code=1)
        assert reason(lowtide) == "RepositoryChanged"
    assert restic.snapshots() == []


def test_preflight_fails_where_a_backup_would(lowtide: Lowtide, place: str, tmp_path: Path) -> None:
    lowtide.run("init")
    lowtide.run("preflight", code=12, extra={"RESTIC_PASSWORD": "wrong"})
    lowtide.run("preflight", code=1, extra={"RESTIC_PASSWORD": ""})
    assert reason(lowtide) == "CredentialsMissing"


@pytest.mark.parametrize(("kind", "code"), [("snapshots", 0), ("index", 1)])
def test_preflight_reads_what_a_backup_reads(kind: str, code: int, lowtide: Lowtide, place: str, volumes: Path) -> None:
    lowtide.run("init")
    lowtide.backup(volumes / "data")
    (damaged,) = (Path(place) / kind).iterdir()
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")

    for command in (["preflight"], ["backup", volumes / "data"]):
        assert damaged.name[:8] in lowtide.run(*command, "--no-cache", code=code).err
        assert reason(lowtide) == ("RepositoryDamaged" if code else "Completed")


def test_preflight_asks_for_snapshots(lowtide: Lowtide, volumes: Path) -> None:
    lowtide.run("init")
    plain = lowtide.backup(volumes / "data", "--host", "a", "--time", "2020-01-01")["snapshot_id"]
    newer = lowtide.backup(volumes / "data", "--host", "a", "--time", "2020-03-01")["snapshot_id"]
    unapproved = member(lowtide, volumes, "data", "r1")

    def asked(*arguments: str, code: int = 0) -> list[str]:
        lowtide.run("preflight", *arguments, code=code)
        assert lowtide.result is not None
        return lowtide.result.snapshot_ids

    assert asked("--snapshot", plain[:8]) == [plain]
    assert asked("--host", "a") == [newer]
    assert asked("--host", "a", "--as-of", "2020-02-01T00:00:00Z") == [plain]
    asked("--host", "a", "--as-of", "2019-01-01T00:00:00Z", code=1)
    assert reason(lowtide) == "SnapshotMissing"
    asked("--snapshot", "ffffffff", code=1)
    asked("--host", "shop/nightly", code=1)
    verdict(lowtide, "r1", unapproved)
    assert asked("--host", "shop/nightly", "--path", str(volumes / "data")) == [unapproved]


def test_a_run_is_looked_up_by_its_tags(lowtide: Lowtide, volumes: Path) -> None:
    lowtide.run("init")
    ids = {(run, claim): member(lowtide, volumes, claim, run) for run in ("r1", "r2") for claim in ("data", "media")}

    for (run, claim), id_ in ids.items():
        lowtide.run("snapshots", *OWNER, "--run", run, "--claim", claim, "--json")
        assert lowtide.result is not None
        assert lowtide.result.snapshot_ids == [id_]
    lowtide.run("snapshots", *OWNER, "--run", "r3", "--claim", "data", "--json")
    assert lowtide.result.snapshot_ids == []


def test_a_parent_is_the_same_claim_of_the_same_policy(lowtide: Lowtide, volumes: Path) -> None:
    lowtide.run("init")
    first = member(lowtide, volumes, "data", "r1")
    lowtide.backup(volumes / "data", "--host", "shop/nightly")

    member(lowtide, volumes, "data", "r2")

    assert lowtide.snapshots()[-1]["parent"] == first


def test_a_verdict_is_a_snapshot_that_restic_shows_and_restores(
    lowtide: Lowtide, restic: Restic, volumes: Path, tmp_path: Path
) -> None:
    lowtide.run("init")
    members = [member(lowtide, volumes, claim, "r1") for claim in ("data", "media")]

    given = verdict(lowtide, "r1", *members)

    restic.run("check", "--read-data")
    shown: dict[str, Any] = next(s for s in restic.snapshots() if s["id"] == given)
    assert {"lowtide:verdict", "lowtide:run=r1", *(f"lowtide:member={id_}" for id_ in members)} <= set(shown["tags"])
    restic.run("restore", given, "--target", tmp_path / "out")
    text = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert {entry["id"] for entry in text["members"]} == set(members)
    restic.run("rewrite", "--exclude", "nothing", given)
    restic.run("prune")
    restic.run("check", "--read-data")


def test_without_lowtide_a_good_run_is_found_by_its_verdict(
    lowtide: Lowtide, restic: Restic, volumes: Path, tmp_path: Path
) -> None:
    """README.md, "Without Lowtide", and what docs/how-to/disaster-recovery.md asks a Restore for."""
    lowtide.run("init")
    members = [member(lowtide, volumes, claim, "r1") for claim in ("data", "media")]
    verdict(lowtide, "r1", *members)
    failed = member(lowtide, volumes, "data", "r2", "--force")

    (shown,) = json.loads(restic.run("snapshots", "--tag", "lowtide:verdict", "--json").out)
    assert {tag.removeprefix("lowtide:member=") for tag in shown["tags"] if "member" in tag} == set(members)
    of_run = json.loads(restic.run("snapshots", "--tag", "lowtide:run=r1", "--json").out)
    (found,) = [snapshot["id"] for snapshot in of_run if "lowtide:claim=data" in snapshot["tags"]]
    assert found == members[0] != failed
    restic.run("restore", f"{found[:8]}:{volumes / 'data'}", "--target", tmp_path / "back")
    told = differences(describe(volumes / "data"), describe(tmp_path / "back"))
    assert [line for line in told if not line.startswith("b'.'")] == [], "restic leaves the target itself as it is"

    listed = lowtide.run("snapshots", "--namespace", "shop", "--tag", "lowtide:verdict", "--json").out
    assert [snapshot["id"] for snapshot in json.loads(listed)] == [shown["id"]]
    lowtide.run("preflight", "--tag", "lowtide:run=r1,lowtide:claim=data")
    assert lowtide.result is not None
    assert list(lowtide.result.snapshot_ids) == members[:1]
    lowtide.run("preflight", "--tag", "lowtide:run=r2,lowtide:claim=data", code=1)
    assert reason(lowtide) == "SnapshotMissing"


def test_a_verdict_is_given_once(lowtide: Lowtide, volumes: Path) -> None:
    lowtide.run("init")
    id_ = member(lowtide, volumes, "data", "r1")

    assert verdict(lowtide, "r1", id_) == verdict(lowtide, "r1", id_)
    assert len(lowtide.snapshots()) == 2


def test_no_verdict_over_what_is_missing_foreign_or_partial(lowtide: Lowtide, volumes: Path) -> None:
    lowtide.run("init")
    good = member(lowtide, volumes, "data", "r1")
    foreign = member(lowtide, volumes, "media", "r2")
    partial = lowtide.backup(volumes / "media", volumes / "none", *OWNER, "--run", "r1", "--claim", "media", code=3)[
        "snapshot_id"
    ]

    for bad in ("0" * 64, foreign, partial):
        verdict(lowtide, "r1", good, bad, code=1)
        assert reason(lowtide) == "MemberRefused"
    assert len(lowtide.snapshots()) == 3


def test_deletion_is_refused_from_what_may_lack_files(lowtide: Lowtide, volumes: Path, tmp_path: Path) -> None:
    lowtide.run("init")
    unapproved = member(lowtide, volumes, "data", "r1")
    partial = lowtide.backup(volumes / "data", volumes / "none", code=3)["snapshot_id"]
    target = tmp_path / "target"
    target.mkdir()
    (target / "precious").write_text("keep me")

    for id_ in (unapproved, partial):
        lowtide.run("restore", f"{id_}:{volumes / 'data'}", "--target", target, "--delete", code=1)
        assert reason(lowtide) == "DeletionRefused"
        assert [path.name for path in target.iterdir()] == ["precious"]
    lowtide.run("restore", f"{partial}:{volumes / 'data'}", "--target", target, "--delete", "--allow-partial")
    assert not (target / "precious").exists()

    (target / "precious").write_text("keep me")
    verdict(lowtide, "r1", unapproved)
    lowtide.run("restore", f"{unapproved}:{volumes / 'data'}", "--target", target, "--delete", "--verify")
    assert differences(describe(volumes / "data"), describe(target))[1:] == []
    assert not (target / "precious").exists()


def test_a_dry_run_writes_nothing(lowtide: Lowtide, restic: Restic, volumes: Path, tmp_path: Path) -> None:
    lowtide.run("init")
    lowtide.backup("--dry-run", volumes / "data")
    assert restic.snapshots() == []
    assert restic.list_ids("packs") == set()
    lowtide.backup(volumes / "data")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "stray").touch()

    lowtide.run("restore", "latest", "--target", tmp_path / "target", "--delete", "--dry-run")

    assert [path.name for path in (tmp_path / "target").iterdir()] == ["stray"]


def test_forgetting_is_by_id_or_by_run_and_can_be_repeated(lowtide: Lowtide, restic: Restic, volumes: Path) -> None:
    lowtide.run("init")
    kept = lowtide.backup(volumes / "data")["snapshot_id"]
    first = [member(lowtide, volumes, claim, "r1") for claim in ("data", "media")]
    second = member(lowtide, volumes, "data", "r2")
    verdict(lowtide, "r1", *first)

    lowtide.run("forget", "--run", "r1")
    assert {s["id"] for s in restic.snapshots()} == {kept, second}
    for _ in range(2):
        ran = lowtide.run("forget", second)
    assert "gone already" in ran.err
    assert {s["id"] for s in restic.snapshots()} == {kept}
    restic.run("prune")
    restic.run("check", "--read-data")


def test_no_match_is_a_failure(lowtide: Lowtide, volumes: Path, tmp_path: Path) -> None:
    lowtide.run("init")
    lowtide.backup(volumes / "data", "--host", "a")
    target = ("--target", tmp_path / "out")

    lowtide.run("restore", "latest", "--host", "b", *target, code=1)
    assert reason(lowtide) == "SnapshotMissing"
    lowtide.run("restore", "latest", "--include", "no such file", *target, code=1)
    assert reason(lowtide) == "NothingMatched"
    lowtide.run("restore", "latest:/no/such/folder", *target, code=1)
    assert reason(lowtide) == "PathMissing"
    ran = lowtide.run("backup", "--exclude", "[", volumes / "data", code=1)
    assert reason(lowtide) == "RunFailed"
    assert "Traceback" not in ran.err


def test_the_password_is_nowhere_to_be_seen(lowtide: Lowtide, volumes: Path) -> None:
    """Neither in what commands print, in any outcome, nor in their arguments."""
    lowtide.run("init")
    commands: list[list[str | Path]] = [
        ["backup", "-vv", volumes / "data"],
        ["backup", "--json", volumes / "data"],
        ["check", "--read-data"],
        ["key", "list", "--json"],
        ["cat", "config"],
        ["--bogus"],
        ["restore", "latest", "--target", volumes / "out"],
    ]
    for command in commands:
        ran = lowtide.run(*command, code=None)
        assert PASSWORD not in ran.out + ran.err
        ran = lowtide.run(*command, code=None, extra={"RESTIC_PASSWORD": "an0ther secret"})
        assert "an0ther secret" not in ran.out + ran.err
        assert lowtide.result is not None
        assert "secret" not in repr(lowtide.result)


def test_retention_keeps_or_removes_a_run_with_all_its_claims(lowtide: Lowtide, restic: Restic, volumes: Path) -> None:
    lowtide.run("init")
    foreign = lowtide.backup(volumes / "data")["snapshot_id"]
    for run in ("r1", "r2", "r3"):
        verdict(lowtide, run, *(member(lowtide, volumes, claim, run) for claim in ("data", "media")))
    unfinished = member(lowtide, volumes, "data", "r4")
    rules = ("forget", "--policy", "nightly", "--namespace", "shop", "--group-by", "", "--keep-last", "1")

    lowtide.run(*rules, "--keep-tag", "lowtide:run=r1", "--prune", "--max-unused", "0")

    left = restic.snapshots()
    runs = [tag.removeprefix("lowtide:run=") for one in left for tag in one.get("tags") or () if "run=" in tag]
    assert sorted(runs) == ["r1", "r1", "r1", "r3", "r3", "r3", "r4"]
    assert {foreign, unfinished} <= {one["id"] for one in left}
    restic.run("check", "--read-data", "--check-unused")
