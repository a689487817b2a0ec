"""Which failures of a mover are tried again: the engine says it of its errors, the planner by their reasons."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import lowtide_engine
from lowtide_engine.errors import EngineError
from lowtide_operator.planning.jobs import FINAL_REASONS

for module in pkgutil.walk_packages(lowtide_engine.__path__, "lowtide_engine."):
    if not module.name.endswith(("__main__", "_kernel")):
        importlib.import_module(module.name)

MAY_PASS = {
    "EngineError": "whatever it was, it has no name yet",
    "FaultyMachine": "the next attempt may be on another node",
    "FileMissing": "an index or a pack that a prune moved is there under another name for the next run",
    "FileShort": "a storage whose listing is behind",
    "FileUnreadable": "a server that fails for one file may be mended",
    "Interrupted": "the mover was told to stop: its node was drained",
    "LockLost": "somebody else held the repository",
    "StorageFailed": "each instance says it; the plain ones are worth another attempt",
    "RunFailed": "the kernel's: damaged data stays so, but a thread that died for want of memory may not",
    "StreamEmpty": "a database that was restarting has something to say the next time",
    "StreamFailed": "a command that could not connect may be able to",
    "RepositoryFailed": "the repository answered with an error of its own",
}


def kinds(of: type[EngineError]) -> Iterator[type[EngineError]]:
    yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize(
    "kind", sorted(set(kinds(EngineError)), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__
)
def test_planner_and_engine_agree_on_what_the_next_attempt_would_meet_again(kind: type[EngineError]) -> None:
    final = not kind.default_retryable and kind.reason not in MAY_PASS
    assert (kind.reason in FINAL_REASONS) is final
