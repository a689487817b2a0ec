"""Every command that a mover is given is one that the program of the same version understands.

Operator and engine share no code for this: here their two sides meet.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
import pytest

from lowtide_engine.cli.root import root_command
from lowtide_operator.api.mover import Mover
from lowtide_operator.manifests.command import arguments
from lowtide_operator.planning.actions import MoverJob, Purpose
from tests.unit.manifests.cases import CASES, REPOSITORY_ID, SNAPSHOT_ID, job, tags

SELECTED = {"host": "shop", "path": "/data", "tag": "daily,weekly", "asOf": "2026-11-24T12:00:00Z"}

COMMANDS: dict[str, MoverJob] = {
    **CASES,
    "preflight by selection": job(Purpose.PREFLIGHT, kind="Restore", select=SELECTED),
    "preflight by id": job(Purpose.PREFLIGHT, kind="Restore", select={"id": "0123abcd"}),
    "verdict over partial members": job(
        Purpose.VERDICT, host="shop", tags=tags(), snapshot_ids=(SNAPSHOT_ID,), mover=Mover(allow_partial=True)
    ),
    "backup of what a restore finds in its way": replace(CASES["backup"], may_be_empty=True),
    "restore into another claim": job(
        Purpose.RESTORE, "copy", writes=True, fresh=True, snapshot_ids=(SNAPSHOT_ID,), path="/volumes/data"
    ),
    "restore of VolSync's": job(Purpose.RESTORE, "data", writes=True, snapshot_ids=(SNAPSHOT_ID,), path="/"),
    "restore that a person vouches for": job(
        Purpose.RESTORE, "data", writes=True, delete=True, allow_partial=True, snapshot_ids=(SNAPSHOT_ID,), path="/x"
    ),
}


def understood(job: MoverJob) -> dict[str, Any]:
    """What the program makes of the words; raises click.UsageError where it does not take them."""
    name, *words = arguments(job)
    command = root_command().get_command(click.Context(click.Command("lowtide")), name)
    assert command is not None, f"there is no lowtide {name}"
    context = command.make_context(name, words)
    return {**context.find_root().meta["lowtide.given"], **context.params}


@pytest.mark.parametrize("job", COMMANDS.values(), ids=COMMANDS)
def test_the_program_understands_the_command(job: MoverJob) -> None:
    given = understood(job)
    assert given["json"] is True
    assert given["retry_lock"] > 0
    assert given.get("expect_repository", "") == job.repository_id
    assert tuple(given.get("dead_holder", ())) == job.dead_holders


def test_a_backup_says_whose_it_is() -> None:
    given = understood(CASES["backup"])
    assert given["targets"] == ("/volumes/data",)
    assert given["host"] == "shop"
    assert given["tags"] == (("before the upgrade",),)
    assert {f"lowtide:{key}={given[key]}" for key in ("cluster", "namespace", "policy", "run", "claim")} == set(
        tags("data")
    )
    assert given["excludes"] == ("/volumes/data/lost+found",)
    assert given["refuse_empty"] is True
    assert understood(COMMANDS["backup of what a restore finds in its way"])["refuse_empty"] is False


def test_a_look_up_asks_for_one_member_of_one_run() -> None:
    given = understood(CASES["lookup"])
    assert (given["run"], given["claim"], given["ids"]) == (CASES["lookup"].owner.uid, "data", ())


def test_a_verdict_names_its_members() -> None:
    given = understood(CASES["verdict"])
    assert given["members"] == CASES["verdict"].snapshot_ids
    assert given["claim"] is None
    assert given["allow_partial"] is False
    assert understood(COMMANDS["verdict over partial members"])["allow_partial"] is True


def test_a_mirror_deletes_and_reads_back_and_a_merge_does_not_delete() -> None:
    mirror, merge = understood(CASES["restore-mirror"]), understood(CASES["restore-elevated"])
    assert (mirror["delete"], mirror["verify"], mirror["overwrite"]) == (True, True, "always")
    assert (merge["delete"], merge["verify"], merge["overwrite"]) == (False, True, "always")
    assert mirror["snapshot"] == f"{SNAPSHOT_ID}:/volumes/data"
    assert mirror["target"] == "/volumes/data"
    assert mirror["includes"] == ("/wal", "$(RESTIC_PASSWORD)")
    assert mirror["excludes"] == ("/lost+found", "-tmp")
    assert mirror["allow_partial"] is False
    assert understood(COMMANDS["restore that a person vouches for"])["allow_partial"] is True


def test_who_may_give_files_away_restores_the_volumes_own_folder_too_unless_patterns_choose() -> None:
    elevated = CASES["restore-elevated"]
    assert understood(elevated)["root_metadata"] is True
    for other in (replace(elevated, include=("/wal",)), replace(elevated, elevated_allowed=False)):
        assert understood(other)["root_metadata"] is False


def test_a_folder_of_the_snapshot_becomes_the_root_of_the_volume() -> None:
    other, foreign = understood(COMMANDS["restore into another claim"]), understood(COMMANDS["restore of VolSync's"])
    assert (other["snapshot"], other["target"]) == (f"{SNAPSHOT_ID}:/volumes/data", "/volumes/copy")
    assert (foreign["snapshot"], foreign["target"]) == (f"{SNAPSHOT_ID}:/", "/volumes/data")


def test_a_restore_that_does_not_say_its_folder_is_never_built() -> None:
    with pytest.raises(ValueError, match="does not say which folder of the snapshot"):
        arguments(job(Purpose.RESTORE, "data", writes=True, snapshot_ids=(SNAPSHOT_ID,)))


def test_a_preflight_proves_what_it_is_asked() -> None:
    assert understood(CASES["preflight"])["create"] is True
    restore = understood(CASES["preflight-restore"])
    assert (restore["create"], restore["expect_repository"]) == (False, REPOSITORY_ID)
    assert restore["snapshots"] == CASES["preflight-restore"].snapshot_ids
    selected = understood(COMMANDS["preflight by selection"])
    assert (selected["hosts"], selected["paths"], selected["tags"]) == (("shop",), ("/data",), (("daily", "weekly"),))
    assert selected["as_of"].isoformat() == "2026-11-24T12:00:00+00:00"
    assert understood(COMMANDS["preflight by id"])["snapshots"] == ("0123abcd",)
