"""What a mover says at its end is what the operator hears, or nothing at all: by it a backup is good or not."""

from __future__ import annotations

import json
import string
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowtide_engine.contract import MAX_BYTES, VERSION, ContractError, Outcome, Result, decode, encode
from tests.property.test_repository_decoders import json_values

GOOD = Result("backup", Outcome.OK, "Completed", repository_id="a" * 64, snapshot_ids=["b" * 64], files=3, seconds=1.5)
WORDS = st.text(string.ascii_letters, max_size=30)
IDS = st.text("0123456789abcdef", min_size=64, max_size=64)
COUNTS = st.integers(0, 2**63 - 1)

results = st.builds(
    Result,
    command=WORDS,
    outcome=st.sampled_from(Outcome),
    reason=WORDS,
    message=st.text(max_size=3000),
    repository_id=IDS,
    snapshot_ids=st.lists(IDS, max_size=10),
    files=COUNTS,
    bytes=COUNTS,
    added_bytes=COUNTS,
    seconds=st.floats(0, 1e9),
    errors=COUNTS,
    warnings=st.lists(st.text(max_size=1000), max_size=20),
)


@settings(max_examples=200)
@given(results)
def test_a_result_fits_and_only_its_sentences_are_shortened(result: Result) -> None:
    data = encode(result)
    assert len(data) <= MAX_BYTES
    heard = decode(data)
    assert replace(heard, message="", warnings=[]) == replace(result, message="", warnings=[])
    for said, kept in zip([result.message, *result.warnings], [heard.message, *heard.warnings], strict=False):
        assert said == kept or (kept.endswith("…") and said.startswith(kept[:-1]))


@pytest.mark.parametrize("length", range(0, len(encode(GOOD)), 7))
def test_one_that_is_cut_is_none(length: int) -> None:
    with pytest.raises(ContractError):
        decode(encode(GOOD)[:length])


@settings(max_examples=400)
@given(choice=st.data())
def test_any_value_in_any_field_is_of_its_kind_or_refused(choice: st.DataObject) -> None:
    field = choice.draw(st.sampled_from([*(field.name for field in fields(Result)), "version", "of a later one"]))
    document = {**json.loads(encode(GOOD)), field: choice.draw(json_values | st.sampled_from([2**63, -1, "ok"]))}
    try:
        heard = decode(json.dumps(document))
    except ContractError:
        return
    assert len(encode(heard)) <= MAX_BYTES
    assert all(0 <= count < 2**63 for count in (heard.files, heard.bytes, heard.added_bytes, heard.errors))
    assert round(heard.seconds) >= 0
    assert all(type(text) is str for text in (heard.command, heard.reason, heard.message, *heard.snapshot_ids))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Killed",
        "[]",
        "{}",
        "[" * 4000,
        '{"version":1}',
        encode(GOOD).decode().replace('"seconds":1.5', '"seconds":NaN'),
        encode(GOOD).decode().replace('"seconds":1.5', '"seconds":1e999'),
        encode(GOOD).decode().replace(f'"version":{VERSION}', f'"version":{VERSION + 1}'),
    ],
)
def test_what_is_no_result(text: str) -> None:
    with pytest.raises(ContractError):
        decode(text)


def test_the_version_before_is_read_and_what_a_later_one_adds_is_passed_over() -> None:
    document = json.loads(encode(GOOD)) | {"version": VERSION - 1, "added later": [1]}
    assert decode(json.dumps(document)) == GOOD
