"""The health checks for Argo CD, run as Argo CD runs them: Lua 5.1, one file per kind, against its own test data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lowtide_operator.api import BackupPolicy, Resource, Restore, Snapshot, parse

lua51 = pytest.importorskip("lupa.lua51", reason="the Lua interpreter is missing: install requirements/dev.txt")

CHECKS = Path(__file__).parents[3] / "docs" / "gitops" / "argocd" / "lowtide.dev"
KINDS: dict[str, type[Resource]] = {"BackupPolicy": BackupPolicy, "Snapshot": Snapshot, "Restore": Restore}


def cases() -> list[Any]:
    found = []
    for kind in KINDS:
        for case in yaml.safe_load((CHECKS / kind / "health_test.yaml").read_text())["tests"]:
            found.append(pytest.param(kind, case, id=f"{kind} {Path(case['inputPath']).stem}"))
    return found


def plain(text: str) -> Any:
    """YAML as Kubernetes reads it: a time is a text."""
    return _texts(yaml.safe_load(text))


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if hasattr(value, "strftime") else value


def health(kind: str, body: dict[str, Any]) -> tuple[str, str]:
    lua = lua51.LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    lua.globals().obj = lua.table_from(body, recursive=True)
    result = lua.execute((CHECKS / kind / "health.lua").read_text())
    return result.status, result.message


@pytest.mark.parametrize(("kind", "case"), cases())
def test_health_is_as_the_conditions_say(kind: str, case: dict[str, Any]) -> None:
    body = plain((CHECKS / kind / case["inputPath"]).read_text())
    assert body["kind"] == kind
    assert health(kind, body) == (case["healthStatus"]["status"], case["healthStatus"]["message"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_data_is_of_our_api_and_all_of_it_is_used(kind: str) -> None:
    used = {case["inputPath"] for case in yaml.safe_load((CHECKS / kind / "health_test.yaml").read_text())["tests"]}
    assert used == {f"testdata/{path.name}" for path in (CHECKS / kind / "testdata").iterdir()}
    for path in (CHECKS / kind / "testdata").iterdir():
        body = plain(path.read_text())
        known = parse(KINDS[kind], body).to_body()["status"]
        assert body.get("status", {}).items() <= known.items(), f"{path.name} has a field that we have not"
