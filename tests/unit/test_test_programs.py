"""What the tests stand on: programs and images are built once, never half, and never taken for others."""

from __future__ import annotations

import json
import re
import tarfile
import threading
from pathlib import Path

import pytest

from tests import programs
from tests.cluster import images
from tests.cluster.archive import write_archive


def test_a_file_that_several_ask_for_at_once_is_made_once(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(target: Path) -> None:
        made.append(target)
        target.write_text("built")

    askers = [threading.Thread(target=programs.cached, args=(tmp_path, "tool", make)) for _ in range(4)]
    for each in askers:
        each.start()
    for each in askers:
        each.join()
    assert len(made) == 1
    assert (tmp_path / "tool").read_text() == "built"


def test_a_build_that_fails_leaves_nothing_that_looks_built(tmp_path: Path) -> None:
    def make(target: Path) -> None:
        target.write_text("half")
        raise programs.BuildError("the compiler said no")

    with pytest.raises(programs.BuildError):
        programs.cached(tmp_path, "tool", make)
    assert [path.name for path in tmp_path.iterdir()] == [".tool.lock"]


def test_a_changed_pin_never_finds_an_old_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = tmp_path / "restic"
    pins.mkdir()
    (pins / "go.mod").write_text("module tools")
    (pins / "go.sum").write_text("one")
    monkeypatch.setattr(programs, "TOOLS", tmp_path)
    before = programs.module_folder("restic")
    (pins / "go.sum").write_text("two")
    assert programs.module_folder("restic") != before


def test_every_program_has_its_pins() -> None:
    missing = {
        spec.module for spec in programs.PROGRAMS.values() if not (programs.TOOLS / spec.module / "go.mod").exists()
    }
    assert missing == set()


def test_what_programs_have_in_common_is_of_one_version_and_so_is_compiled_once() -> None:
    """But for the programs whose word counts as that of their makers, who chose each version."""
    as_released = {"restic", "rest-server", "kind", "kubeconform", "cni"}
    versions: dict[str, dict[str, set[str]]] = {}
    for module in {spec.module for spec in programs.PROGRAMS.values()} - as_released:
        pins = (programs.TOOLS / module / "go.mod").read_text()
        for name, version in re.findall(r"^\t(\S+\.\S+) (v\S+)(?: // indirect)?$", pins, re.MULTILINE):
            versions.setdefault(name, {}).setdefault(version, set()).add(module)
    assert len(versions) > 200
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout with a .dockerignore that hides compiled files."""
    for name in (
        "engine/kernel/src/lib.rs",
        "engine/kernel/target/junk",
        "engine/cli/__pycache__/run.pyc",
        "README.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    (tmp_path / "notes.txt").write_text("not for the image")
    (tmp_path / ".dockerignore").write_text("*\n!engine\n!README.md\nengine/kernel/target\n**/__pycache__\n")
    monkeypatch.setattr(images, "CHECKOUT", tmp_path)
    return tmp_path


def test_the_image_is_made_of_what_dockerignore_lets_through(checkout: Path) -> None:
    assert [str(path) for path in images.context_files()] == ["README.md", "engine/kernel/src/lib.rs"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("engine/kernel/src/lib.rs", True),
        ("Dockerfile", True),
        ("notes.txt", False),
        ("engine/kernel/target/junk", False),
    ],
)
def test_the_image_has_a_new_name_exactly_when_what_goes_into_it_changes(
    checkout: Path, name: str, changes: bool
) -> None:
    before = images.content_hash()
    (checkout / name).write_text("changed")
    assert (images.content_hash() != before) is changes


def test_an_archive_names_its_image_and_holds_its_layer(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as archive:
        archive.add(__file__, arcname="tide")
    write_archive(tmp_path / "image.tar", layer, name="lowtide.test/tide:1", command=["/tide"])
    with tarfile.open(tmp_path / "image.tar") as image:

        def member(name: str) -> bytes:
            found = image.extractfile(name)
            assert found is not None
            return found.read()

        [manifest] = json.loads(member("manifest.json"))
        config = json.loads(member(manifest["Config"]))
        assert manifest["RepoTags"] == ["lowtide.test/tide:1"]
        assert config["config"]["Cmd"] == ["/tide"]
        assert member(manifest["Layers"][0]) == layer.read_bytes()
