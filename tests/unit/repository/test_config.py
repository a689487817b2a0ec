"""The config of restic and of rustic, and what its fields forbid."""

from __future__ import annotations

import json

import pytest

from lowtide_engine.errors import AppendOnly, BadInput, RepositoryDamaged, RepositoryUnsupported
from lowtide_engine.repository import Config

GOOD = {"version": 2, "id": "ab" * 32, "chunker_polynomial": "3da3358b4dc173"}


def decoded(**changes: object) -> Config:
    return Config.decode(json.dumps({k: v for k, v in (GOOD | changes).items() if v is not None}).encode())


def test_it_is_written_as_restic_writes_it() -> None:
    config = Config.new()
    assert config.encode() == (
        f'{{"version":2,"id":"{config.id}","chunker_polynomial":"{config.chunker_polynomial:x}"}}'.encode()
    )
    assert Config.decode(config.encode()) == config
    config.refuse_reducible()


def test_each_repository_is_another() -> None:
    assert len({(c.id, c.chunker_polynomial) for c in (Config.new() for _ in range(5))}) == 5


def test_a_polynomial_can_be_taken_over() -> None:
    assert Config.new(1, 0x3DA3358B4DC173).chunker_polynomial == 0x3DA3358B4DC173


@pytest.mark.parametrize("polynomial", [0, 1, 0x3DA3358B4DC172, 0x7, 1 << 63])
def test_a_polynomial_that_cuts_badly_is_refused(polynomial: int) -> None:
    with pytest.raises(BadInput, match="irreducible"):
        Config.new(2, polynomial)
    with pytest.raises(RepositoryDamaged, match="irreducible"):
        decoded(chunker_polynomial=f"{polynomial:x}").refuse_reducible()


def test_there_are_two_versions() -> None:
    with pytest.raises(BadInput, match="not 3"):
        Config.new(3)
    for version in (0, 3, 99):
        with pytest.raises(RepositoryUnsupported, match=f"version {version}"):
            decoded(version=version)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "2"},
        {"version": None},
        {"version": True},
        {"id": "x"},
        {"id": None},
        {"chunker_polynomial": 5},
        {"chunker_polynomial": "0x3d"},
        {"chunker_polynomial": "1" * 17},
        {"chunker_polynomial": None},
    ],
    ids=str,
)
def test_what_is_no_config_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RepositoryDamaged):
        decoded(**changes)


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"5", b"\xff"])
def test_what_is_no_document_is_refused(text: bytes) -> None:
    with pytest.raises(RepositoryDamaged):
        Config.decode(text)


def test_rustics_fields_are_kept_and_heeded() -> None:
    config = decoded(append_only=True, compression=3, extra_verify=False)
    assert json.loads(config.encode())["compression"] == 3
    assert not config.extra_verify
    with pytest.raises(AppendOnly, match="could not prune"):
        config.refuse_deleting("prune")
    with pytest.raises(RepositoryUnsupported, match="hot"):
        decoded(is_hot=True).refuse_hot()
    plain = decoded()
    plain.refuse_deleting("prune")
    plain.refuse_hot()
    assert plain.extra_verify


@pytest.mark.parametrize(
    ("changes", "foreign"),
    [
        ({}, False),
        ({"chunker": "Rabin", "chunk_size": 1 << 20, "chunk_min_size": 1 << 19, "chunk_max_size": 1 << 23}, False),
        ({"chunker": "FixedSize"}, True),
        ({"chunk_size": 1 << 21}, True),
        ({"chunk_max_size": 1 << 24}, True),
    ],
)
def test_another_chunker_is_seen(changes: dict[str, object], foreign: bool) -> None:
    assert decoded(**changes).foreign_chunker is foreign
