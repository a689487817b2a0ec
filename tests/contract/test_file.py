"""Names can't escape the repository, whatever they were read from."""

from __future__ import annotations

import pytest

from lowtide_engine.storage import CONFIG, File, FileKind


@pytest.mark.parametrize("name", ["", "..", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "../" + "a" * 61, "a" * 64 + "\n"])
def test_a_file_is_named_by_an_id_or_not_at_all(name: str) -> None:
    with pytest.raises(ValueError, match="called"):
        File(FileKind.DATA, name)


def test_the_config_has_no_name() -> None:
    with pytest.raises(ValueError, match="config"):
        File(FileKind.CONFIG, "a" * 64)


def test_paths_are_restics() -> None:
    name = "ab" + "c" * 62
    assert CONFIG.path == "config"
    assert File(FileKind.DATA, name).path == f"data/ab/{name}"
    assert File(FileKind.SNAPSHOT, name).path == f"snapshots/{name}"
    assert File(FileKind.KEY, name).path == f"keys/{name}"
