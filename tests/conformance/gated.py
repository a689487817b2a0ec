"""`python -m tests.conformance.gated …` is lowtide with a local storage that waits or fails where a test wants it.

GATE_FOLDER holds the signs between the test and the process: the process makes `waiting` when it has come to the gate
and goes on once the test made `go`. GATE_AFTER: so many packs are stored before one waits at the gate. GATE_FAILS: the
pack of this number can't be stored, for good. GATE_LOADS: so many pieces of packs are read before one waits. Packs and
pieces are counted from 1.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

from lowtide_engine.cli.process import run
from lowtide_engine.errors import StorageError
from lowtide_engine.storage import File, FileKind, StorageOptions, registry
from lowtide_engine.storage.local import open_local

_count = itertools.count(1)
_loads = itertools.count(1)


class Gated:
    """A local storage with a gate before each pack."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def save(self, file: File, data: Any) -> None:
        if file.kind is FileKind.DATA:
            number = next(_count)
            if number == int(os.environ.get("GATE_FAILS", "0")):
                raise StorageError(f"could not store {file}: the test wants it so")
            if number > int(os.environ.get("GATE_AFTER", "1000000")):
                self._wait()
        self._inner.save(file, data)

    def load(self, file: File, offset: int = 0, length: int | None = None) -> Any:
        if file.kind is FileKind.DATA and next(_loads) > int(os.environ.get("GATE_LOADS", "1000000")):
            self._wait()
        return self._inner.load(file, offset, length)

    def _wait(self) -> None:
        folder = Path(os.environ["GATE_FOLDER"])
        (folder / "waiting").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)


def open_gated(location: str, options: StorageOptions) -> Any:
    return Gated(open_local(location, options))


if __name__ == "__main__":
    registry.SCHEMES["local"] = "tests.conformance.gated:open_gated"
    sys.exit(run(sys.argv[1:]))
