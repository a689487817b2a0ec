"""What an SFTP location and its options mean, apart from any connection (restic's forms of it)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lowtide_engine.errors import BadInput

OPTIONS = ("known-hosts", "fingerprint", "identity")
IDENTITY_VARIABLE = "LOWTIDE_SFTP_IDENTITY"
KNOWN_HOSTS_VARIABLE = "LOWTIDE_SFTP_KNOWN_HOSTS"
PASSPHRASE_VARIABLE = "LOWTIDE_SFTP_PASSPHRASE"  # noqa: S105 - a name

_FORMS = "sftp:user@host:/path or sftp://user@host:port//path"
_HOST = re.compile(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+")
_USER = re.compile(r"[A-Za-z0-9_.@-]+")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")


@dataclass(frozen=True, slots=True)
class SftpLocation:
    """Where the files are. An empty `user` and a `port` of 0 are for the ssh configuration to say; a `path` without a
    slash in front counts from the user's home.
    """

    host: str
    user: str
    port: int
    path: str

    @classmethod
    def parse(cls, location: str) -> SftpLocation:
        """Read `sftp:[user@]host:path` or `sftp://[user@]host[:port]/path` (from the home) or `…//path` (absolute).

        BadInput says what is missing, and repeats nothing that may be a password.
        """
        rest = location.removeprefix("sftp:")
        if rest.startswith("//"):
            user, host, port, path = _of_url(rest)
        else:
            before, colon, path = rest.partition(":")
            if before.startswith("[") or not colon:
                raise BadInput("the SFTP location names no path", hint=f"write {_FORMS}")
            user, at, host = before.rpartition("@")
            if at and not user:
                raise BadInput("the SFTP location's user is empty", hint=f"write {_FORMS}")
            port = 0
            if re.match(r"[^/]*@[^/]*:", path):
                raise BadInput("the SFTP location holds a password", hint=f"write {_FORMS}, and give a key instead")
        if not _HOST.fullmatch(host) or host.startswith("-") or (user and not _USER.fullmatch(user)):
            raise BadInput(
                "the SFTP location names no host, or holds a password",
                hint=f"write {_FORMS}, and give a key by -o sftp.identity=FILE",
            )
        if not path.strip("/"):
            raise BadInput("the SFTP location names no path", hint=f"write {_FORMS}")
        clean = posixpath.normpath(path)
        return cls(host, user, port, f"/{clean.lstrip('/')}" if clean.startswith("/") else clean)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        if self.port or ":" in self.host:
            port = f":{self.port}" if self.port else ""
            return f"sftp://{user}{host}{port}/{self.path}"
        return f"sftp:{user}{host}:{self.path}"

    def below(self, path: str) -> str:
        """A path below the repository, as the server knows it."""
        return posixpath.join(self.path, path)


@dataclass(frozen=True, slots=True)
class SshTrust:
    """Which host key is right and which key is ours. None and "" leave it to the ssh configuration and its files."""

    known_hosts: Path | None
    fingerprint: str
    identity: Path | None

    @classmethod
    def of(cls, options: Mapping[str, str], environment: Mapping[str, str]) -> SshTrust:
        """From -o sftp.known-hosts, sftp.fingerprint and sftp.identity, else the environment. BadInput for a file that
        is not there and for a fingerprint that is none: nobody's key is taken on trust.
        """
        fingerprint = options.get("fingerprint", "")
        if fingerprint and not _FINGERPRINT.fullmatch(fingerprint):
            raise BadInput("sftp.fingerprint is like SHA256:… with 43 characters, as `ssh-keygen -l` prints it")
        known_hosts = options.get("known-hosts") or environment.get(KNOWN_HOSTS_VARIABLE)
        return cls(
            known_hosts=None if fingerprint else _file(known_hosts, "known hosts"),
            fingerprint=fingerprint.rstrip("="),
            identity=_file(options.get("identity") or environment.get(IDENTITY_VARIABLE), "identity"),
        )


def _file(name: str | None, what: str) -> Path | None:
    if not name:
        return None
    path = Path(name).expanduser()
    if not path.is_file():
        raise BadInput(f"the {what} file {path} is not there")
    return path


def _of_url(rest: str) -> tuple[str, str, int, str]:
    try:
        parts = urlsplit(rest)
        host, port = parts.hostname or "", parts.port or 0
    except ValueError:
        raise BadInput("the SFTP location's port is no number", hint=f"write {_FORMS}") from None
    if parts.password is not None or parts.query or parts.fragment:
        raise BadInput("the SFTP location holds a password", hint=f"write {_FORMS}, and give a key instead")
    return unquote(parts.username or ""), host, port, unquote(parts.path).removeprefix("/")
