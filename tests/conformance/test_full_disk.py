"""A disk that fills up: a backup fails and says so, what was stored stays whole, and a prune makes room again; a repair
of packs deletes none that it could not copy.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from lowtide_engine.contract import RESULT_FILE_VARIABLE, decode
from tests.conformance.actors import PASSWORD, Lowtide
from tests.conformance.quick import make_repository

pytestmark = pytest.mark.oracle

BACKUP = r"""
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

REPAIR = r"""
set -eu
mount -t tmpfs -o size=64k none "$COPIES"
cd "$COPIES"
code=0
"$PYTHON" -m lowtide_engine.cli repair packs "$PACK" || code=$?
echo "ended with $code"
find "$COPIES" -type f | wc -l | sed 's/^/files left: /'
find "$RESTIC_REPOSITORY/data" -name "$PACK" | wc -l | sed 's/^/packs left: /'
mount -o remount,size=16m "$COPIES"
cp "$RESTIC_REPOSITORY/data/"*"/$PACK" "$COPIES/expected"
"$PYTHON" -m lowtide_engine.cli repair packs "$PACK"
cmp "pack-$PACK" expected
test -z "$(find "$RESTIC_REPOSITORY/data" -name "$PACK")"
echo "all is well"
"""


def _files(folder: Path, sizes: Sequence[int]) -> Path:
    folder.mkdir()
    for number, size in enumerate(sizes):
        (folder / ("file" if number == 0 else f"file {number}")).write_bytes(secrets.token_bytes(size))
    return folder


def _run(script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run it as root, with mounts in a namespace of these processes alone, which go with them."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk of its own")
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script],
        env=os.environ | {"PYTHON": sys.executable, "RESTIC_PASSWORD": PASSWORD} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is well" in done.stdout
    return done


def test_a_full_disk_ends_a_backup_and_harms_nothing(tmp_path: Path, restic_program: str) -> None:
    place = tmp_path / "repository"
    place.mkdir()
    environment = {
        "PLACE": str(place),
        "RESTIC": restic_program,
        "SMALL": str(_files(tmp_path / "small", [1_000_000])),
        "MEDIUM": str(_files(tmp_path / "medium", [9_000_000])),
        "LARGE": str(_files(tmp_path / "large", [8_000_000] * 6)),
        "OUTCOME": str(tmp_path / "outcome.json"),
        "RESTIC_REPOSITORY": str(place),
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
        RESULT_FILE_VARIABLE: str(tmp_path / "result.json"),
    }
    done = _run(BACKUP, environment)
    assert "ended with 1" in done.stdout
    assert "locks left: 0" in done.stdout
    assert "temporary files left: 0" in done.stdout
    result = decode((tmp_path / "outcome.json").read_bytes())
    assert (result.outcome, result.reason) == ("failed", "StorageFull")
    assert "No space left" in result.message
    (snapshots,) = [line for line in done.stdout.splitlines() if line.startswith("[{")]
    assert snapshots.count('"short_id"') == 1


def test_a_repair_deletes_no_pack_of_which_there_is_no_copy(lowtide: Lowtide, tmp_path: Path) -> None:
    make_repository(lowtide.repository)
    lowtide.backup(_files(tmp_path / "source", [1_000_000]))
    pack = max(Path(lowtide.repository).glob("data/*/*"), key=lambda path: path.stat().st_size).name
    (tmp_path / "copies").mkdir()

    done = _run(
        REPAIR,
        lowtide.environment
        | {"RESTIC_REPOSITORY": lowtide.repository, "COPIES": str(tmp_path / "copies"), "PACK": pack},
    )

    assert "ended with 1" in done.stdout
    assert "files left: 0" in done.stdout
    assert "packs left: 1" in done.stdout
    assert "No space left" in done.stderr
    assert "no pack was removed" in done.stderr
