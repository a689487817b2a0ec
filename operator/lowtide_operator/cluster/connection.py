"""Where the API server is, and with what credentials: from the pod's service account or from a kubeconfig."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NoCluster(Exception):
    """Neither a service account nor a usable kubeconfig was found."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What another client needs to connect to the same API server. Paths are files; `token` is without a scheme."""

    server: str
    ca_path: str | None
    insecure: bool
    token: str | None
    certificate_path: str | None
    private_key_path: str | None

    def __repr__(self) -> str:
        return f"Credentials(server={self.server!r})"


async def load_configuration() -> Configuration:
    """Read the configuration: KUBECONFIG if set, else the service account, else ~/.kube/config. Raises NoCluster."""
    configuration = Configuration()
    path = os.environ.get("KUBECONFIG")
    try:
        if not path and (SERVICE_ACCOUNT / "token").exists() and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            file = path or str(Path.home() / ".kube" / "config")
            await config.load_kube_config(config_file=file, client_configuration=configuration)
    except config.ConfigException as error:
        raise NoCluster(
            f"no cluster to work on: {error}; "
            "run in a pod with a service account, or set KUBECONFIG to a file that names one"
        ) from error
    return configuration


async def load_credentials() -> Credentials:
    """The same, read anew, for a client of another kind (a service account's token file is renewed by the kubelet)."""
    configuration = await load_configuration()
    scheme_and_token = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization") or ""
    return Credentials(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        token=scheme_and_token.rpartition(" ")[2].strip() or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )
