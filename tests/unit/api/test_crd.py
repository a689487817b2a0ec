"""What is generated from the models, without an API server: that it is up to date, described, and within the rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from lowtide_operator.api import crd
from lowtide_operator.api.model import Model, Resource
from lowtide_operator.api.schema import SchemaError, structural
from lowtide_operator.api.values import RULES

ROOT = Path(__file__).parents[3]


def nodes(schema: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield place, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{place}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{place}[]")


def part(resource: type[Resource], name: str) -> dict[str, Any]:
    version = crd.definition(resource)["spec"]["versions"][0]
    return version["schema"]["openAPIV3Schema"]["properties"][name]  # type: ignore[no-any-return]


def test_generated_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--check", "--root", str(ROOT)]) == 0, capsys.readouterr().err


def test_a_stale_file_fails_the_check_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pyproject.toml").touch()
    assert crd.main(["--root", str(tmp_path)]) == 0
    assert crd.main(["--root", str(tmp_path), "--check"]) == 0
    stale = tmp_path / "crds" / "lowtide.dev_restores.yaml"
    stale.write_text("changed by hand")
    capsys.readouterr()
    assert crd.main(["--root", str(tmp_path), "--check"]) == 1
    assert "crds/lowtide.dev_restores.yaml is not up to date" in capsys.readouterr().err
    assert stale.read_text() == "changed by hand"


def test_another_folder_is_not_written_to(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        crd.main(["--root", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("resource", crd.RESOURCES)
@pytest.mark.parametrize("name", ["spec", "status"])
def test_every_field_is_described(resource: type[Resource], name: str) -> None:
    bare = [
        place
        for place, node in nodes(part(resource, name), name)
        if "description" not in node and not place.endswith("[]")
    ]
    assert bare == []


@pytest.mark.parametrize("resource", crd.RESOURCES)
def test_every_text_list_and_map_of_a_spec_is_bounded(resource: type[Resource]) -> None:
    """Else the API server can't bound the cost of a rule, and a person can fill etcd."""
    bounds = {"string": ("maxLength", "enum", "format"), "array": ("maxItems",)}
    loose = []
    for place, node in nodes(part(resource, "spec"), "spec"):
        wanted = bounds.get(node.get("type", ""), ())
        if node.get("type") == "object" and "additionalProperties" in node:
            wanted = ("maxProperties",)
        if wanted and not any(key in node for key in wanted):
            loose.append(place)
    assert loose == []


@pytest.mark.parametrize("resource", crd.RESOURCES)
def test_a_status_is_never_refused_by_a_bound_or_a_rule(resource: type[Resource]) -> None:
    """The operator writes it: losing the ledger to a text that is too long would leave production down."""
    allowed = {
        "type", "format", "enum", "description", "properties", "required", "items", "additionalProperties",
        "x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    }  # fmt: skip
    for place, node in nodes(part(resource, "status"), "status"):
        assert set(node) <= allowed, place


@pytest.mark.parametrize("resource", crd.RESOURCES)
def test_every_rule_has_a_sentence(resource: type[Resource]) -> None:
    rules = [rule for _, node in nodes(part(resource, "spec"), "spec") for rule in node.get(RULES, [])]
    assert rules
    for rule in rules:
        assert len(rule["message"].split()) >= 5, rule
        assert "\n" not in rule["message"]


def test_the_chart_has_the_same_definitions_with_a_switch() -> None:
    for plain in sorted((ROOT / "crds").glob("*.yaml")):
        template = (ROOT / "charts/lowtide/templates/crds" / plain.name).read_text()
        lines = template.splitlines()
        assert lines[0] == "{{- if .Values.crds.enabled }}"
        assert lines[-1] == "{{- end }}"
        body = "\n".join(line for line in lines if "{{" not in line)
        kept = yaml.safe_load(body)
        assert kept["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert kept == yaml.safe_load(plain.read_text())


def test_what_a_structural_schema_can_not_say_is_refused_with_its_place() -> None:
    class Choice(Model):
        either: int | str = 1
        """One or the other."""

    class Loose(Model):
        items: tuple[str, ...] = ()
        """A list that does not say how it merges."""

    class Exclusive(Model):
        number: Annotated[int, Field(gt=0)] = 1
        """More than nothing."""

    with pytest.raises(SchemaError, match=r"Choice\.either: a choice between types"):
        structural(Choice)
    with pytest.raises(SchemaError, match=r"Loose\.items: a list must say its x-kubernetes-list-type"):
        structural(Loose)
    with pytest.raises(SchemaError, match=r"Exclusive\.number: exclusiveMinimum can't be said"):
        structural(Exclusive)
