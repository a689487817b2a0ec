"""Where a repository is and how it is opened, as policies and restores say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from lowtide_operator.api.model import Model, Rule
from lowtide_operator.api.values import Name


class CaBundle(Model):
    """Certificates that the repository's server is trusted by, beside nothing else."""

    rules = (
        Rule(
            "has(self.secretName) != has(self.configMapName)",
            "name a Secret or a ConfigMap that holds the certificates, and only one of them",
            lambda self: (self.secret_name is None) != (self.config_map_name is None),
        ),
    )

    secret_name: Name | None = None
    """The Secret that holds the certificates."""
    config_map_name: Name | None = None
    """The ConfigMap that holds the certificates."""
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] = "ca.crt"
    """The key in it whose value is a bundle of certificates in PEM form."""


OPTION_NAME = "^(local|rest|s3|sftp)[.][a-z0-9-]{1,40}$"
OptionValue = Annotated[str, Field(min_length=1, max_length=253)]
Rate = Annotated[int, Field(ge=1, le=1073741824, json_schema_extra={"format": "int32"})]


class Repository(Model):
    """A repository in the restic format, version 2, and what opens it. All in the object's own namespace."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.claimName) || !has(self.sshSecretName) && !has(self.clientCertificateSecretName)",
            "a repository on a claim is reached without a server: name no sshSecretName or clientCertificateSecretName",
            lambda self: self.claim_name is None or not (self.ssh_secret_name or self.client_certificate_secret_name),
        ),
        Rule(
            f"!has(self.options) || self.options.all(name, name.matches('{OPTION_NAME}'))",
            "an option is named by its storage and a dot, like s3.storage-class or sftp.connections",
            lambda self: all(re.fullmatch(OPTION_NAME, name) for name in self.options),
        ),
    )

    secret_name: Name
    """The Secret with restic's environment variables: RESTIC_REPOSITORY (not with claimName), RESTIC_PASSWORD, and what
    the storage needs, such as AWS_ACCESS_KEY_ID. Movers get the whole Secret as environment; the operator never reads
    it."""
    claim_name: Name | None = None
    """The PersistentVolumeClaim that holds the repository, in place of RESTIC_REPOSITORY. All its movers run with group
    65532, so that each can read what the others wrote."""
    ca_bundle: CaBundle | None = None
    """Certificates for a server whose certificate no public authority signed."""
    ssh_secret_name: Name | None = None
    """The Secret for a repository on an SFTP server: `ssh-privatekey`, as in the type kubernetes.io/ssh-auth, and
    `known_hosts`. It is mounted into movers. A key's passphrase is LOWTIDE_SFTP_PASSPHRASE in the other Secret."""
    client_certificate_secret_name: Name | None = None
    """The Secret of the type kubernetes.io/tls (`tls.crt`, `tls.key`) with the certificate that a server asks movers
    for. It is mounted into movers."""
    options: Annotated[Mapping[str, OptionValue], Field(max_length=16)] = Field(default_factory=dict)
    """Options of the storage, as `-o` takes them, such as s3.storage-class or sftp.connections. Never a secret: they
    stand in the movers' arguments."""
    limit_upload: Rate | None = None
    """The most that each mover sends to the repository, in KiB per second."""
    limit_download: Rate | None = None
    """The most that each mover fetches from the repository, in KiB per second."""
