"""Where a repository's password comes from, and a type that never shows it."""

from __future__ import annotations

import getpass
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lowtide_engine.errors import CredentialsMissing

_SCRUBBED = (
    "RESTIC_PASSWORD",
    "RESTIC_PASSWORD2",
    "RESTIC_FROM_PASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "RESTIC_REST_PASSWORD",
    "RESTIC_REST_USERNAME",
    "LOWTIDE_SFTP_PASSPHRASE",
)
_LOCATIONS = ("RESTIC_REPOSITORY", "RESTIC_FROM_REPOSITORY")
_WITH_PASSWORD = re.compile(r"[a-z0-9]+:(?:[a-z]+:)?//[^/]*:[^/]*@")
_COMMAND_TIMEOUT = 120.0


class Password:
    """A secret text. `reveal` gives its bytes; its repr, str and errors never do."""

    __slots__ = ("_bytes",)

    def __init__(self, text: str | bytes) -> None:
        self._bytes = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text

    def reveal(self) -> bytes:
        """The bytes that go into the key derivation."""
        return self._bytes

    def __repr__(self) -> str:
        return "Password(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Password) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a password is not pickled")


NO_PASSWORD = Password("")
"""The empty one, as restic's --insecure-no-password means it. No other Password that is empty makes a key."""


def find_password(
    environment: Mapping[str, str],
    *,
    file: str | None = None,
    command: str | None = None,
    none: bool = False,
    prompt: str | None = "enter password for repository: ",
) -> Password:
    """The password from --password-file, --password-command, RESTIC_PASSWORD_FILE, RESTIC_PASSWORD_COMMAND,
    RESTIC_PASSWORD, or a terminal.

    As in restic, what a file or command gives is stripped of white space at both ends, the environment's is taken as it
    is, and naming both a file and a command is an error. With `none` it is the empty one, and any other that is given
    is an error. `prompt` None never asks. Raises CredentialsMissing with what to set.
    """
    if file is None and command is None:
        file = environment.get("RESTIC_PASSWORD_FILE") or None
        command = environment.get("RESTIC_PASSWORD_COMMAND") or None
    if none and (file or command or environment.get("RESTIC_PASSWORD")):
        raise CredentialsMissing("no password was asked for, and one is given", hint="leave one of the two out")
    if none:
        return NO_PASSWORD
    if file and command:
        raise CredentialsMissing("a password file and a password command are both given", hint="give one of them")
    if file:
        return password_from_file(file)
    if command:
        return password_from_command(command, environment)
    if environment.get("RESTIC_PASSWORD"):
        return Password(environment["RESTIC_PASSWORD"])
    if prompt is not None and sys.stdin is not None and sys.stdin.isatty():
        return _checked(Password(getpass.getpass(prompt)), "the terminal")
    raise CredentialsMissing(
        "no password for the repository was given",
        hint="set RESTIC_PASSWORD, RESTIC_PASSWORD_FILE or RESTIC_PASSWORD_COMMAND",
    )


def password_from_file(file: str) -> Password:
    """The whole file, as UTF-8 with or without a byte order mark, stripped at both ends."""
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise CredentialsMissing(f"could not read the password from {file}: {error.strerror}") from error
    return _checked(Password(data.removeprefix(b"\xef\xbb\xbf").strip()), file)


def password_from_command(command: str, environment: Mapping[str, str]) -> Password:
    """What the command prints. It inherits the environment without the repository's password and its storage's keys."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CredentialsMissing(f"the password command can't be split into words: {error}") from None
    if not words:
        raise CredentialsMissing("the password command is empty")
    try:
        done = subprocess.run(
            words,
            env=scrubbed(environment),
            stdout=subprocess.PIPE,
            check=False,
            timeout=_COMMAND_TIMEOUT,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise CredentialsMissing(f"could not start the password command {words[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        # `from None`: the exception carries what the command had printed.
        raise CredentialsMissing(f"the password command {words[0]} took over {_COMMAND_TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        raise CredentialsMissing(f"the password command {words[0]} failed with code {done.returncode}")
    return _checked(Password(done.stdout.strip()), f"the command {words[0]}")


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """What a command that we start may see of our environment: not the repository's password, nor its storage's keys,
    nor a location with a password in it."""
    return {name: value for name, value in environment.items() if not _is_secret(name, value)}


def _is_secret(name: str, value: str) -> bool:
    return name in _SCRUBBED or (name in _LOCATIONS and _WITH_PASSWORD.match(value) is not None)


def _checked(password: Password, source: str) -> Password:
    if not password.reveal():
        raise CredentialsMissing(
            f"the password from {source} is empty", hint="give one, or say --insecure-no-password if there is none"
        )
    return password
