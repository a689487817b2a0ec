"""The S3 server that other tests rely on: it keeps what it acknowledged, and only its own credentials open it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.programs import program
from tests.s3 import S3Server, s3_server

pytestmark = [pytest.mark.s3, pytest.mark.oracle]


def _restic(server: S3Server, cache: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {
        **os.environ,
        **server.environment,
        "RESTIC_PASSWORD": "tide",
        "RESTIC_REPOSITORY": server.repository("kept"),
        "RESTIC_CACHE_DIR": str(cache),
        **environment,
    }
    return subprocess.run(
        [program("restic"), *arguments], env=variables, capture_output=True, text=True, timeout=120, check=False
    )


def test_what_was_stored_survives_a_kill_and_a_restart_on_the_same_port(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("high water")
    with s3_server() as server:
        assert _restic(server, tmp_path / "cache", "init").returncode == 0
        assert _restic(server, tmp_path / "cache", "backup", str(source)).returncode == 0
        endpoint = server.endpoint
        server.kill()
        server.restart()
        assert server.endpoint == endpoint
        dumped = _restic(server, tmp_path / "cache", "dump", "latest", str(source / "file"))
        assert dumped.stdout == "high water", dumped.stderr


def test_other_credentials_are_refused(s3_server: S3Server, tmp_path: Path) -> None:
    refused = _restic(s3_server, tmp_path, "init", AWS_SECRET_ACCESS_KEY="wrong")
    assert refused.returncode != 0
    assert not (s3_server.folder / s3_server.bucket / "kept").exists()
