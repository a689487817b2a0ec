"""What a REST location means, apart from any connection (restic's form of it, and its environment variables)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from lowtide_engine.errors import BadInput

USER_VARIABLE = "RESTIC_REST_USERNAME"
PASSWORD_VARIABLE = "RESTIC_REST_PASSWORD"  # noqa: S105 - a name

_FORM = "rest:https://host:port/path/"


@dataclass(frozen=True, slots=True)
class RestLocation:
    """Where the server is. `path` has slashes at both ends. User and password are never shown."""

    tls: bool
    host: str
    port: int
    path: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, location: str, environment: Mapping[str, str]) -> RestLocation:
        """Read `rest:https://[user:password@]host[:port]/path/`; without a user there, RESTIC_REST_USERNAME and
        RESTIC_REST_PASSWORD say who we are. BadInput repeats nothing of it: it may hold a password.
        """
        try:
            parts = urlsplit(location.removeprefix("rest:"))
            port = parts.port
        except ValueError:
            raise BadInput("the REST location is no URL", hint=f"write {_FORM}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput("the REST location is no http or https URL with a host", hint=f"write {_FORM}")
        if parts.query or parts.fragment:
            raise BadInput("the REST location holds a ? or a #", hint=f"write {_FORM}, with %3F and %23 for them")
        user, password = parts.username, parts.password
        if user is None:
            user, password = environment.get(USER_VARIABLE, ""), environment.get(PASSWORD_VARIABLE, "")
        else:
            user, password = unquote(user), unquote(password or "")
        tls = parts.scheme == "https"
        path = f"/{parts.path.strip('/')}/" if parts.path.strip("/") else "/"
        return cls(tls, parts.hostname, port or (443 if tls else 80), path, user, password)

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"rest:{'https' if self.tls else 'http'}://{self.authority}{self.path}"
