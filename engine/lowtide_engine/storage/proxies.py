"""Which proxy stands before a server: by the variables that restic heeds, read as restic (Go's net/http) reads them."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from lowtide_engine.errors import BadInput


def proxy_for(host: str, port: int, environment: Mapping[str, str], *, tls: bool) -> str:
    """The URL of the proxy for a server: HTTPS_PROXY or HTTP_PROXY. "" where that is not set, where NO_PROXY names the
    host, and for this machine itself. BadInput repeats nothing of a URL: it may hold a password.
    """
    name = "HTTPS_PROXY" if tls else "HTTP_PROXY"
    value = _variable(name, environment)
    if not value or _is_near(host) or any(_names(entry, host, port) for entry in _excluded(environment)):
        return ""
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise BadInput(f"{name} is no http or https URL with a host", hint="write http://host:port")
    return url


def credentials_of(proxy: str) -> str:
    """`user:password` of a proxy's URL, "" where it has none."""
    parts = urlsplit(proxy)
    return f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""


def _variable(name: str, environment: Mapping[str, str]) -> str:
    return environment.get(name) or environment.get(name.lower()) or ""


def _excluded(environment: Mapping[str, str]) -> list[str]:
    entries = _variable("NO_PROXY", environment).split(",")
    return [entry.strip().lower() for entry in entries if entry.strip()]


def _is_near(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host.lower() == "localhost"


def _names(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY means the host: `*`, an address, a network, or a domain with all below it (with a
    dot before it, only what is below); an address or a domain may have a port.
    """
    if entry == "*":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit():
        if int(wanted) != port:
            return False
        entry = name.strip("[]")
    host, entry = host.lower(), entry.removeprefix("*")
    return host.endswith(entry) if entry.startswith(".") else host == entry or host.endswith(f".{entry}")
