"""The config file: what a repository is (restic-format 1.2). Sealed, never compressed; the only file whose name is
fixed.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from lowtide_engine.errors import AppendOnly, BadInput, RepositoryDamaged, RepositoryUnsupported
from lowtide_engine.repository.go_text import go_json

_HEX_64 = re.compile(r"[0-9a-f]{64}")
_POLYNOMIAL = re.compile(r"[0-9a-f]{1,16}")
_OWN = ("version", "id", "chunker_polynomial")
_RESTIC_CHUNKS = {"chunker": "Rabin", "chunk_size": 1 << 20, "chunk_min_size": 512 << 10, "chunk_max_size": 8 << 20}
DEGREE = 53


@dataclass(frozen=True, slots=True)
class Config:
    """A repository's config. `extra` are keys of others (rustic's), kept when it is written again."""

    version: int
    id: str
    chunker_polynomial: int
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def new(cls, version: int = 2, polynomial: int | None = None) -> Config:
        """For a new repository: random id, and a random irreducible polynomial unless one is given."""
        from lowtide_engine._kernel import is_irreducible, random_polynomial

        if version not in (1, 2):
            raise BadInput(f"there are repository versions 1 and 2, not {version}")
        chosen = random_polynomial() if polynomial is None else polynomial
        if chosen.bit_length() != DEGREE + 1 or not is_irreducible(chosen):
            raise BadInput(f"{chosen:x} is not an irreducible polynomial of degree {DEGREE}")
        return cls(version, secrets.token_hex(32), chosen)

    @classmethod
    def decode(cls, plaintext: bytes) -> Config:
        """Read it; RepositoryDamaged where it is none, RepositoryUnsupported where it is newer than we are."""
        try:
            document = json.loads(plaintext)
            version, name, polynomial = (document[key] for key in _OWN)
        except (ValueError, KeyError, TypeError):
            raise RepositoryDamaged("the config is not a repository's config") from None
        if type(version) is not int or not isinstance(name, str) or not _HEX_64.fullmatch(name):
            raise RepositoryDamaged("the config has a version or an id that is none")
        if version not in (1, 2):
            raise RepositoryUnsupported(f"the repository has version {version}; 1 and 2 can be read")
        if not isinstance(polynomial, str) or not _POLYNOMIAL.fullmatch(polynomial):
            raise RepositoryDamaged("the config has a chunker polynomial that is none")
        extra = {key: value for key, value in document.items() if key not in _OWN}
        return cls(version, name, int(polynomial, 16), extra)

    def encode(self) -> bytes:
        """The plaintext, keys in restic's order."""
        own = {"version": self.version, "id": self.id, "chunker_polynomial": f"{self.chunker_polynomial:x}"}
        return go_json({**own, **self.extra})

    @property
    def append_only(self) -> bool:
        """rustic's mark that nothing may be deleted."""
        return self.extra.get("append_only") is True

    @property
    def foreign_chunker(self) -> bool:
        """Whether another chunker or other sizes than restic's were used: readable, but what we cut would not
        deduplicate.
        """
        return any(self.extra.get(key) not in (None, value) for key, value in _RESTIC_CHUNKS.items())

    @property
    def extra_verify(self) -> bool:
        """rustic's switch for checking what was sealed before it leaves; on unless it says no."""
        return self.extra.get("extra_verify") is not False

    def refuse_hot(self) -> None:
        """Refuse the hot half of rustic's hot/cold pair: it lacks the data packs."""
        if self.extra.get("is_hot") is True:
            raise RepositoryUnsupported(
                "this is the hot part of a hot/cold repository and has no data",
                hint="name the cold part, which is whole",
            )

    def refuse_deleting(self, doing: str) -> None:
        """Refuse `doing` in an append-only repository."""
        if self.append_only:
            raise AppendOnly(f"could not {doing}: the repository's config says append_only")

    def refuse_reducible(self) -> None:
        """Refuse a polynomial with which the chunker would not work; asks the kernel."""
        from lowtide_engine._kernel import is_irreducible

        if self.chunker_polynomial.bit_length() != DEGREE + 1 or not is_irreducible(self.chunker_polynomial):
            raise RepositoryDamaged(f"the config's chunker polynomial {self.chunker_polynomial:x} is not irreducible")
