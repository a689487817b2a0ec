"""Every global option, and the variable that says the same, arrives where it is read."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from lowtide_engine.cli.options import GLOBAL_OPTIONS, Command, Settings, settings
from lowtide_engine.cli.session import Session

OPTIONS: dict[str, tuple[list[str], Any]] = {
    "repository": (["--repo", "/r"], "/r"),
    "repository_file": (["--repository-file", "/f"], "/f"),
    "password_file": (["--password-file", "/p"], "/p"),
    "password_command": (["--password-command", "cat /p"], "cat /p"),
    "insecure_no_password": (["--insecure-no-password"], True),
    "key_hint": (["--key-hint", "ab"], "ab"),
    "cacert": (["--cacert", "/ca"], "/ca"),
    "tls_client_cert": (["--tls-client-cert", "/cert"], "/cert"),
    "insecure_tls": (["--insecure-tls"], True),
    "limit_upload": (["--limit-upload", "100"], 100),
    "limit_download": (["--limit-download", "200"], 200),
    "stuck_request_timeout": (["--stuck-request-timeout", "90s"], 90.0),
    "cache_dir": (["--cache-dir", "/cache"], "/cache"),
    "no_cache": (["--no-cache"], True),
    "no_lock": (["--no-lock"], True),
    "retry_lock": (["--retry-lock", "5m"], 300.0),
    "dead_holder": (["--dead-holder", "a", "--dead-holder", "b"], ("a", "b")),
    "expect_repository": (["--expect-repository", "ab"], "ab"),
    "json": (["--json"], True),
    "quiet": (["-q"], True),
    "verbose": (["-vv"], 2),
    "compression": (["--compression", "max"], "max"),
    "pack_size": (["--pack-size", "4"], 4 << 20),
    "no_extra_verify": (["--no-extra-verify"], True),
    "option": (["-o", "s3.region=x", "-o", "s3.connections=2"], ("s3.region=x", "s3.connections=2")),
}
VARIABLES: dict[str, tuple[str, str, Any]] = {
    "repository": ("RESTIC_REPOSITORY", "/r", "/r"),
    "repository_file": ("RESTIC_REPOSITORY_FILE", "/f", "/f"),
    "password_file": ("RESTIC_PASSWORD_FILE", "/p", "/p"),
    "password_command": ("RESTIC_PASSWORD_COMMAND", "cat /p", "cat /p"),
    "key_hint": ("RESTIC_KEY_HINT", "ab", "ab"),
    "cacert": ("RESTIC_CACERT", "/ca", "/ca"),
    "tls_client_cert": ("RESTIC_TLS_CLIENT_CERT", "/cert", "/cert"),
    "cache_dir": ("RESTIC_CACHE_DIR", "/cache", "/cache"),
    "compression": ("RESTIC_COMPRESSION", "max", "max"),
    "pack_size": ("RESTIC_PACK_SIZE", "8", 8 << 20),
}


def given(*words: str) -> Settings:
    """What a command line adds up to."""
    with Command("any").make_context("lowtide", [*words]) as context:
        return settings(context)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing, and that is put back: settings takes its secrets out."""
    monkeypatch.setattr("os.environ", {"HOME": "/nowhere"})


def test_every_global_option_is_shown_here() -> None:
    assert OPTIONS.keys() == {field.name for field in fields(Settings)} - {"environment"}
    assert OPTIONS.keys() | {"cleanup_cache"} == GLOBAL_OPTIONS, "--cleanup-cache changes nothing"


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option(name: str) -> None:
    words, value = OPTIONS[name]
    assert getattr(given(), name) != value
    assert getattr(given(*words), name) == value


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_and_an_option_before_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable, text, value = VARIABLES[name]
    monkeypatch.setattr("os.environ", {variable: text})
    assert getattr(given(), name) == value
    option = OPTIONS[name][0][0]
    assert getattr(given(option, "off" if name == "compression" else "5"), name) != value


def test_what_a_storage_is_told(tmp_path: Path) -> None:
    certificate, authority = tmp_path / "both.pem", tmp_path / "ca.pem"
    for path in (certificate, authority):
        path.write_text("a certificate")
    words = ["--cacert", str(authority), "--tls-client-cert", str(certificate), "--insecure-tls"]
    words += ["--stuck-request-timeout", "90s", "--limit-upload", "100", "-o", "s3.region=x"]
    with Command("any").make_context("lowtide", words) as context:
        options = Session.of(context, "any").storage_options()
    assert options.ca_file == authority
    assert options.client_certificate == (certificate, certificate)
    assert (options.insecure_tls, options.stuck_timeout, options.extended) == (True, 90.0, {"s3.region": "x"})
