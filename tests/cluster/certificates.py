"""A certificate authority for a cluster, and what the API server needs from it; made by the openssl program."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """Where the files are. `kubelet_client` is what the API server shows to a kubelet for logs and exec."""

    authority: Path
    server: Path
    server_key: Path
    kubelet_client: Path
    kubelet_client_key: Path
    accounts_key: Path
    """The RSA key by which tokens of service accounts are signed and checked."""


def make(folder: Path, addresses: Sequence[str]) -> Certificates:
    """Make all of it in `folder`; the API server is known by `addresses` and its names in the cluster."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority, key = folder / "ca.crt", folder / "ca.key"
    _openssl(
        *("req", "-x509", "-days", "30", *_NEW_KEY, "-keyout", key, "-out", authority, "-subj", "/CN=lowtide-tests"),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"),
    )
    names = ["DNS:localhost", "DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc"]
    names += [f"IP:{address}" for address in dict.fromkeys(addresses)]
    server = _sign(folder, "apiserver", "/CN=kube-apiserver", f"subjectAltName={','.join(names)}", authority, key)
    client = _sign(
        folder,
        "kubelet-client",
        "/O=system:masters/CN=kube-apiserver-kubelet-client",
        "extendedKeyUsage=clientAuth",
        authority,
        key,
    )
    accounts = folder / "accounts.key"
    _openssl("genrsa", "-out", accounts, "2048")
    return Certificates(authority, *server, *client, accounts)


_NEW_KEY = ("-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def _sign(folder: Path, name: str, subject: str, extension: str, authority: Path, key: Path) -> tuple[Path, Path]:
    certificate, own_key, request = folder / f"{name}.crt", folder / f"{name}.key", folder / f"{name}.csr"
    _openssl("req", "-new", *_NEW_KEY, "-keyout", own_key, "-out", request, "-subj", subject, "-addext", extension)
    _openssl(
        *("x509", "-req", "-days", "30", "-in", request, "-CA", authority, "-CAkey", key, "-CAcreateserial"),
        *("-copy_extensions", "copy", "-out", certificate),
    )
    return certificate, own_key


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.strip()[-500:]}")
