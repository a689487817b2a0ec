"""Where a repository is and how it is opened, as policies and restores say it."""

from __future__ import annotations

from typing import Annotated

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


class Repository(Model):
    """A repository in the restic format, version 2, and what opens it. All in the object's own namespace."""

    secret_name: Name
    """The Secret with restic's environment variables: RESTIC_REPOSITORY (not with claimName), RESTIC_PASSWORD, and what
    the storage needs, such as AWS_ACCESS_KEY_ID. Movers get the whole Secret as environment; the operator never reads
    it."""
    claim_name: Name | None = None
    """The PersistentVolumeClaim that holds the repository, in place of RESTIC_REPOSITORY. All its movers run with group
    65532, so that each can read what the others wrote."""
    ca_bundle: CaBundle | None = None
    """Certificates for a server whose certificate no public authority signed."""
