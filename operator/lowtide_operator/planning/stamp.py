"""The annotation on a claim that says which Restore wrote to it, and whether it was done: written before the first
byte."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum

from lowtide_operator.api import RestoreSpec
from lowtide_operator.planning.naming import RESTORED_ANNOTATION
from lowtide_operator.planning.observed import Claim, Uid


class StampState(StrEnum):
    """How far it is: Writing (half-written, until another state says otherwise), Restored, Inconsistent (all was
    written, and somebody used it meanwhile), or RolledBack."""

    WRITING = "Writing"
    RESTORED = "Restored"
    INCONSISTENT = "Inconsistent"
    ROLLED_BACK = "RolledBack"


@dataclass(frozen=True, slots=True)
class Stamp:
    """One stamp. `spec` is the hash of the Restore's spec: a Restore that lost its status finds it, and never runs
    again."""

    name: str
    run: Uid
    spec: str
    state: StampState

    def text(self) -> str:
        """The annotation's value."""
        return json.dumps(
            {"restore": self.name, "run": self.run, "spec": self.spec, "state": self.state.value}, sort_keys=True
        )


def read_stamp(claim: Claim) -> Stamp | None:
    """The stamp on the claim; None where there is none, or one that nobody can read."""
    try:
        value = json.loads(claim.meta.annotations[RESTORED_ANNOTATION])
        return Stamp(str(value["restore"]), Uid(str(value["run"])), str(value["spec"]), StampState(value["state"]))
    except (KeyError, TypeError, ValueError):
        return None


def spec_hash(spec: RestoreSpec) -> str:
    """The same for the same spec, whatever its object is called, and in every version: a default, which the next
    version may have more of, is left out."""
    text = json.dumps(spec.model_dump(mode="json", by_alias=True, exclude_defaults=True), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
