"""What is gone between the listing of its folder and the first look at it was deleted meanwhile: that is no failure."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from lowtide_engine import _kernel as kernel
from tests.unit.kernel.driver import Ended, answer, backup
from tests.unit.kernel.plain_repository import PlainRepository

MORE_THAN_THE_EVENTS_THAT_WAIT = 200


def test_what_is_gone_before_it_is_looked_at_is_a_notice(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "z folder").mkdir(parents=True)
    (source / "z folder" / "inside").write_bytes(b"x")
    (source / "z file").write_bytes(b"x")
    (source / "z link").symlink_to("nowhere")
    (source / "zz stays").write_bytes(b"stays")
    # Each is a notice, and the walk waits for whoever reads them: it is in this folder, and far from the files with z.
    for number in range(MORE_THAN_THE_EVENTS_THAT_WAIT):
        os.mknod(source / f"a socket {number:03}", stat.S_IFSOCK | 0o600)
    repository = PlainRepository.bare(tmp_path / "repository")
    run = backup(repository, bytes(source))
    ended = Ended()

    event = run.next(60)
    assert isinstance(event, kernel.ItemError)
    shutil.rmtree(source / "z folder")
    (source / "z file").unlink()
    (source / "z link").unlink()
    while True:
        answer(run, repository, event, ended)
        if isinstance(event, kernel.Finished):
            break
        event = run.next(60)

    told = {Path(os.fsdecode(error.path)).name for error in ended.errors if "gone" in error.message}
    assert told == {"z folder", "z file", "z link"}
    assert ended.failures() == []
    assert (ended.summary["errors"], ended.summary["total_files_processed"]) == (0, 1)
