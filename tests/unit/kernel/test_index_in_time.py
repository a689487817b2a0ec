"""What is stored is named by an index after a while, however few packs it is: a mover that is killed loses no more."""

from __future__ import annotations

import inspect
import json
import os
import random
from pathlib import Path

from lowtide_engine import _kernel as kernel
from tests.unit.kernel.driver import Ended, answer, backup
from tests.unit.kernel.plain_repository import PlainRepository

PACK = 4 << 20


def test_an_index_comes_when_its_time_is_over_and_names_what_is_stored(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(random.Random(3).randbytes(40 << 20))
    repository = PlainRepository.bare(tmp_path / "repository")
    run = backup(repository, bytes(source), pack_size=PACK, index_packs=1000, index_seconds=0.2)
    ended, waiting, stored = Ended(), [], ""

    # One pack is stored, and the storage is slow with all others: no further pack can bring an index about.
    while not ended.indexes:
        event = run.next(60)
        assert event is not None, "no index came"
        if isinstance(event, kernel.PackReady) and stored:
            waiting.append(event)
            continue
        if isinstance(event, kernel.PackReady):
            stored = event.pack
        answer(run, repository, event, ended)

    # Of ten packs, so that it did not wait for the end.
    assert [pack["id"] for pack in json.loads(ended.indexes[0])["packs"]] == [stored]
    for event in waiting:
        answer(run, repository, event, ended)
    waiting.clear()
    while not ended.root:
        event = run.next(60)
        answer(run, repository, event, ended)
    named = [pack["id"] for index in ended.indexes for pack in json.loads(index)["packs"]]
    assert sorted(named) == sorted(ended.packs)


def test_where_nobody_says_otherwise_it_comes_with_the_32nd_pack(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(192 << 20))
    run = backup(PlainRepository.bare(tmp_path / "repository"), bytes(source), pack_size=PACK)
    stored: list[str] = []
    waiting: list[kernel.PackReady] = []

    while not isinstance(event := run.next(60), kernel.IndexReady):
        assert isinstance(event, kernel.PackReady), "no index came"
        if len(stored) == 32:
            waiting.append(event)
        else:
            stored.append(event.pack)
            run.pack_stored(event.pack)

    named = [pack["id"] for pack in json.loads(event.json)["packs"]]
    assert len(named) == 32
    assert sorted(named) == sorted(stored)
    run.cancel()


def test_where_nobody_says_otherwise_its_time_is_two_minutes() -> None:
    assert inspect.signature(kernel.Backup).parameters["index_seconds"].default == 120
