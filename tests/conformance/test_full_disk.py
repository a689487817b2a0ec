"""A disk that fills up: the backup fails and says so, what was stored stays whole, and a prune makes room again."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from lowtide_engine.contract import RESULT_FILE_VARIABLE, decode
from tests.conformance.actors import PASSWORD

pytestmark = pytest.mark.oracle

SCRIPT = r"""
set -eu
mount -t tmpfs -o size=24m none "$PLACE"
"$PYTHON" -m lowtide_engine.cli init -q
"$PYTHON" -m lowtide_engine.cli backup -q "$SMALL"
code=0
"$PYTHON" -m lowtide_engine.cli backup --pack-size 4 "$LARGE" || code=$?
cp "$LOWTIDE_RESULT_FILE" "$OUTCOME"
echo "ended with $code"
find "$PLACE/locks" -type f | wc -l | sed 's/^/locks left: /'
find "$PLACE" -name '*-tmp-*' | wc -l | sed 's/^/temporary files left: /'
"$RESTIC" --no-cache snapshots --json
"$RESTIC" --no-cache check --read-data
"$PYTHON" -m lowtide_engine.cli prune -q
"$PYTHON" -m lowtide_engine.cli backup -q "$MEDIUM"
"$RESTIC" --no-cache check --read-data
"$RESTIC" --no-cache dump latest "$MEDIUM/file" | cmp - "$MEDIUM/file"
echo "all is well"
"""


def _files(folder: Path, sizes: Sequence[int]) -> Path:
    folder.mkdir()
    for number, size in enumerate(sizes):
        (folder / ("file" if number == 0 else f"file {number}")).write_bytes(secrets.token_bytes(size))
    return folder


def test_a_full_disk_ends_a_backup_and_harms_nothing(tmp_path: Path, restic_program: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk of its own")
    place = tmp_path / "repository"
    place.mkdir()
    environment = os.environ | {
        "PLACE": str(place),
        "PYTHON": sys.executable,
        "RESTIC": restic_program,
        "SMALL": str(_files(tmp_path / "small", [1_000_000])),
        "MEDIUM": str(_files(tmp_path / "medium", [9_000_000])),
        "LARGE": str(_files(tmp_path / "large", [8_000_000] * 6)),
        "OUTCOME": str(tmp_path / "outcome.json"),
        "RESTIC_REPOSITORY": str(place),
        "RESTIC_PASSWORD": PASSWORD,
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
        RESULT_FILE_VARIABLE: str(tmp_path / "result.json"),
    }
    # The mount is in a namespace of these processes alone, and goes with them.
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is well" in done.stdout
    assert "ended with 1" in done.stdout
    assert "locks left: 0" in done.stdout
    assert "temporary files left: 0" in done.stdout
    result = decode((tmp_path / "outcome.json").read_bytes())
    assert (result.outcome, result.reason) == ("failed", "StorageFull")
    assert "No space left" in result.message
    (snapshots,) = [line for line in done.stdout.splitlines() if line.startswith("[{")]
    assert snapshots.count('"short_id"') == 1
