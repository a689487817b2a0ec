"""Where passwords come from, and that they are shown nowhere."""

from __future__ import annotations

import copy
import pickle
import sys
import traceback
from pathlib import Path

import pytest

from lowtide_engine.errors import CredentialsMissing
from lowtide_engine.repository import Password, find_password
from lowtide_engine.repository import password as module

SECRET = "hunter2"
PRINT = f"{sys.executable} -c \"print('  from command \\n')\""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "password"
    made.write_bytes(b"\xef\xbb\xbf  from file\r\n\n")
    return made


def test_each_source(file: Path) -> None:
    assert find_password({"RESTIC_PASSWORD": " as it is\n"}) == Password(" as it is\n")
    assert find_password({"RESTIC_PASSWORD_FILE": str(file)}) == Password("from file")
    assert find_password({"RESTIC_PASSWORD_COMMAND": PRINT}) == Password("from command")
    assert find_password({}, file=str(file)) == Password("from file")
    assert find_password({}, command=PRINT) == Password("from command")


def test_the_command_line_comes_before_the_environment_and_files_before_the_variable(file: Path) -> None:
    environment = {"RESTIC_PASSWORD_COMMAND": PRINT, "RESTIC_PASSWORD": "x"}
    assert find_password(environment) == Password("from command")
    assert find_password(environment, file=str(file)) == Password("from file")


def test_two_sources_of_one_kind_are_refused(file: Path) -> None:
    with pytest.raises(CredentialsMissing, match="one of them"):
        find_password({"RESTIC_PASSWORD_FILE": str(file), "RESTIC_PASSWORD_COMMAND": PRINT})


def test_none_says_what_to_set() -> None:
    with pytest.raises(CredentialsMissing, match="RESTIC_PASSWORD_COMMAND"):
        find_password({}, prompt=None)
    with pytest.raises(CredentialsMissing):
        find_password({"RESTIC_PASSWORD": ""}, prompt=None)


def test_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(module.getpass, "getpass", lambda prompt: SECRET if "repository" in prompt else "")
    assert find_password({}) == Password(SECRET)
    with pytest.raises(CredentialsMissing):
        find_password({}, prompt=None)
    with pytest.raises(CredentialsMissing, match="empty"):
        find_password({}, prompt="?")


@pytest.mark.parametrize(
    "command",
    ["", "'", "/does/not/exist", f"{sys.executable} -c 'import sys; print(\"{SECRET}\"); sys.exit(3)'", "true"],
)
def test_a_command_that_fails_is_named_but_not_what_it_said(command: str) -> None:
    with pytest.raises(CredentialsMissing) as caught:
        module.password_from_command(command, {"PATH": "/usr/bin:/bin"})
    assert SECRET not in "".join(traceback.format_exception(caught.value, chain=True)[-1:])


def test_a_command_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMMAND_TIMEOUT", 0.2)
    code = f"import sys, time; print('{SECRET}', flush=True); time.sleep(30)"
    with pytest.raises(CredentialsMissing, match="took over") as caught:
        module.password_from_command(f'{sys.executable} -c "{code}"', {})
    assert SECRET not in "".join(traceback.format_exception(caught.value)[-1:])
    assert caught.value.__suppress_context__


def test_a_command_doesnt_see_the_repositorys_secrets() -> None:
    secrets = (
        *("RESTIC_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        *("RESTIC_REST_PASSWORD", "LOWTIDE_SFTP_PASSPHRASE"),
    )
    environment = dict.fromkeys(secrets, "a secret") | {"KEPT": "kept"}
    code = "import os; print(sorted(k for k in os.environ if k.isupper() and not k.startswith('LC_')))"
    printed = module.password_from_command(f'{sys.executable} -c "{code}"', environment).reveal().decode()
    assert printed == "['KEPT']"


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        (f"rest:https://me:{SECRET}@host/shop", False),
        (f"rest:http://me:{SECRET}@host:8000", False),
        ("rest:https://me@host/shop", True),
        ("rest:https://host:8000/a:b@c", True),
        ("s3:https://host/bucket/a:b@c", True),
        ("sftp://me@host:22//srv/shop", True),
        ("/srv/a:b@c", True),
    ],
)
def test_a_location_is_seen_by_a_command_unless_a_password_is_in_it(place: str, kept: bool) -> None:
    for name in ("RESTIC_REPOSITORY", "RESTIC_FROM_REPOSITORY"):
        assert (name in module.scrubbed({name: place})) is kept


def test_a_missing_or_empty_file(tmp_path: Path) -> None:
    with pytest.raises(CredentialsMissing, match="No such file"):
        module.password_from_file(str(tmp_path / "none"))
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(CredentialsMissing, match="empty"):
        module.password_from_file(str(tmp_path / "empty"))


def test_a_password_is_never_shown() -> None:
    password = Password(SECRET)
    assert SECRET not in repr(password) + str(password) + f"{password}"
    with pytest.raises(TypeError):
        pickle.dumps(password)
    with pytest.raises(TypeError):
        copy.copy(password)


def test_a_password_is_its_bytes() -> None:
    assert Password("ü").reveal() == b"\xc3\xbc"
    assert Password(b"\xff").reveal() == b"\xff"
    assert Password(b"\xff".decode(errors="surrogateescape")).reveal() == b"\xff"
