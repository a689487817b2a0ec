"""The house's rules that no linter knows: where files may be, how long they may be, what they may be called."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (ROOT / "operator", ROOT / "engine")
MAX_LINES = 450
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows and that are there, by glob."""
    names = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).exists()]


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda path: path.name)
def test_package_folders_are_no_packages(folder: Path) -> None:
    assert not (folder / "__init__.py").exists(), (
        f"{folder.name}/__init__.py would shadow the standard library or copy each module"
    )


@pytest.mark.parametrize("module", ["operator", "engine"])
def test_a_python_started_at_the_root_finds_the_standard_library(module: str) -> None:
    code = f"import importlib.util as u; s = u.find_spec({module!r}); print(s.origin if s and s.origin else '')"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    assert str(ROOT) not in found


def test_no_tests_below_the_package_folders() -> None:
    strays = [
        path for folder in PACKAGES for pattern in ("**/test_*.py", "**/conftest.py") for path in folder.glob(pattern)
    ]
    assert strays == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    named = [path for path in tracked("*.py", "*.rs") if path.stem in FORBIDDEN_NAMES]
    assert named == []


def test_source_files_stay_readable_in_one_sitting() -> None:
    sources = [path for path in tracked("operator/*.py", "engine/*.py", "engine/*.rs") if "table" not in path.stem]
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}


def test_no_file_names_this_machine_or_a_private_registry() -> None:
    marks = re.compile(r"(?<![\w.])/(?:work|check)/" + "|/root/" + r"\.|farm-" + "bench")
    texts = [path for path in tracked() if path.suffix not in {".gz", ".png"} and path.is_file()]
    named = [str(path.relative_to(ROOT)) for path in texts if marks.search(path.read_text(errors="replace"))]
    assert named == []


def test_pins_name_no_host_but_the_public_ones() -> None:
    """Whoever builds this fetches from where he chose to."""
    pins = {"requirements": "://|--(?:extra-)?index-url|--find-links", "go": r"://|=> /"}
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for kind, files in {"requirements": ("*requirements*.in", "*requirements*.txt"), "go": ("*go.mod",)}.items()
        for path in tracked(*files)
        for line in path.read_text().splitlines()
        if re.search(pins[kind], line.partition("#")[0])
    ]
    sources = re.findall(r'^source = "(.+)"$', (ROOT / "engine/kernel/Cargo.lock").read_text(), re.MULTILINE)
    assert found == []
    assert set(sources) == {"registry+https://github.com/rust-lang/crates.io-index"}
