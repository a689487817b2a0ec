"""What a blob costs in the index in memory, at ten million blobs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lowtide_engine._kernel import Index

BLOBS = 10_000_000
PER_FILE = 50_000
PER_PACK = 500
LENGTH = 30_000


def resident() -> int:
    """The bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def index_file() -> bytes:
    """The JSON of an index of 50,000 blobs with random ids, in packs of 500."""
    ids = os.urandom(32 * PER_FILE).hex()
    packs = []
    for first in range(0, PER_FILE, PER_PACK):
        blobs = ",".join(
            f'{{"id":"{ids[64 * number : 64 * number + 64]}","type":"data","offset":{(number - first) * LENGTH},'
            f'"length":{LENGTH},"uncompressed_length":{3 * LENGTH}}}'
            for number in range(first, first + PER_PACK)
        )
        packs.append(f'{{"id":"{os.urandom(32).hex()}","blobs":[{blobs}]}}')
    return f'{{"packs":[{",".join(packs)}]}}\n'.encode()


def main(arguments: Sequence[str]) -> int:
    """Fill an index and print what it takes."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench index", description=__doc__)
    parser.add_argument("--blobs", type=int, default=BLOBS)
    blobs = parser.parse_args(arguments).blobs
    index = Index()
    index.add("00" * 32, index_file())
    before, known = resident(), len(index)
    for number in range(1, blobs // PER_FILE):
        index.add(f"{number:064x}", index_file())
    added = len(index) - known
    print(f"{'bytes of memory for each of ' + format(added, ',') + ' blobs':58} {(resident() - before) / added:8.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
