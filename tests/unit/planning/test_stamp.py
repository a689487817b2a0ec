"""The stamp of a Restore: what it knows its spec by, also after an upgrade of the operator."""

from typing import Any

import pytest
from pydantic import Field

from lowtide_operator.api import RestoreSpec
from lowtide_operator.api.model import Model
from lowtide_operator.api.mover import Mover
from lowtide_operator.planning.stamp import spec_hash

MINIMAL: dict[str, Any] = {"source": {"snapshotName": "one"}, "volumes": [{"claim": "data"}], "overwrite": "Mirror"}
SAID: dict[str, Any] = {
    **MINIMAL,
    "volumes": [{"claim": "data", "newClaim": {"name": "copy", "accessModes": ["ReadWriteMany"]}}, {"claim": "files"}],
    "exclude": ["*.tmp"],
    "quiesce": {"strategy": "ScaleDown", "maxDowntime": "90m"},
    "mover": {"retry": {"limit": 1, "backoff": "5s"}, "privilege": "Elevated"},
}


class Extra(Model):
    """What a later version has more of."""

    speed: int = 5
    names: tuple[str, ...] = ()


class LaterMover(Mover):
    """The mover of a later version."""

    colour: str = "blue"
    extra: Extra = Field(default_factory=Extra)


class LaterSpec(RestoreSpec):
    """A Restore's spec of a later version."""

    greeting: str | None = None
    extra: Extra = Field(default_factory=Extra)
    mover: LaterMover = Field(default_factory=LaterMover)


@pytest.mark.parametrize(
    ("spec", "known"),
    [(MINIMAL, "503774446bff7a513990ca9369f6b8cc"), (SAID, "a1af751eaec3ffdb38c0fa5fab3b2731")],
    ids=["minimal", "with settings"],
)
def test_the_hash_stays_the_same_in_every_version(spec: dict[str, Any], known: str):
    """Claims carry it: a Restore whose hash became another one would run a second time."""
    assert spec_hash(RestoreSpec.model_validate(spec)) == known
    assert spec_hash(LaterSpec.model_validate(spec)) == known


def test_what_was_filled_in_by_the_api_server_is_what_was_left_out():
    filled = RestoreSpec.model_validate(MINIMAL).to_body()
    assert filled != MINIMAL
    assert spec_hash(RestoreSpec.model_validate(filled)) == spec_hash(RestoreSpec.model_validate(MINIMAL))


@pytest.mark.parametrize(
    "change",
    [
        {"overwrite": "Merge"},
        {"volumes": [{"claim": "files"}]},
        {"include": ["a"]},
        {"quiesce": {"strategy": "None"}},
        {"mover": {"retry": {"limit": 9}}},
    ],
    ids=str,
)
def test_another_spec_has_another_hash(change: dict[str, Any]):
    assert spec_hash(RestoreSpec.model_validate({**MINIMAL, **change})) != spec_hash(
        RestoreSpec.model_validate(MINIMAL)
    )
