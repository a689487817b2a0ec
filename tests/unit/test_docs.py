"""What the docs show works as it stands: links lead somewhere, objects are valid, commands and options are there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from lowtide_engine.cli.root import root_command
from lowtide_operator.api import API_VERSION, crd
from lowtide_operator.api.model import parse

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob("charts/*/README.md")]
KINDS = {resource.kind.kind: resource for resource in crd.RESOURCES}


def name_of(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page: Path, language: str) -> Iterator[str]:
    """The code blocks of a language."""
    for indent, text in re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL):
        yield re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_pages_and_headings_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(there), f"{target} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_objects_are_valid(page: Path) -> None:
    for text in blocks(page, "yaml"):
        for document in yaml.safe_load_all(text):
            if isinstance(document, dict) and document.get("apiVersion") == API_VERSION:
                kind = KINDS[document["kind"]]
                parse(kind, document)
                (version,) = crd.definition(kind)["spec"]["versions"]
                assert unknown(document["spec"], version["schema"]["openAPIV3Schema"]["properties"]["spec"]) == []


def unknown(value: object, schema: dict[str, Any], place: str = "spec") -> list[str]:
    """The fields in `value` that the schema has not: a model passes them over, as fields of a newer version."""
    if isinstance(value, list):
        return [field for item in value for field in unknown(item, schema["items"], f"{place}[]")]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    known = schema["properties"]
    return [f"{place}.{name}" for name in value if name not in known] + [
        field for name in value if name in known for field in unknown(value[name], known[name], f"{place}.{name}")
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_and_options_of_lowtide_are_there(page: Path) -> None:
    for text in blocks(page, "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            if line.strip().startswith("lowtide "):
                check(shlex.split(line.split(" | ")[0], comments=True)[1:])


@pytest.mark.parametrize("path", sorted(CHECKOUT.glob("docs/how-to/*.yaml")), ids=name_of)
def test_the_arguments_of_jobs_are_there(path: Path) -> None:
    job = yaml.safe_load(path.read_text())["spec"]
    for container in job.get("jobTemplate", {"spec": job})["spec"]["template"]["spec"]["containers"]:
        if container["command"] == ["lowtide"]:
            check(container["args"])


def test_the_network_policy_selects_movers() -> None:
    (text,) = blocks(CHECKOUT / "docs" / "how-to" / "network-and-size.md", "yaml")
    mover = yaml.safe_load((CHECKOUT / "tests/unit/manifests/golden/preflight.yaml").read_text())
    selected = yaml.safe_load(text)["spec"]["podSelector"]["matchLabels"]
    assert selected.items() <= mover["spec"]["template"]["metadata"]["labels"].items()


def check(words: list[str]) -> None:
    """Fail where `words` are no arguments of lowtide."""
    command: click.Command = root_command()
    context = click.Context(command, info_name="lowtide")
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, outer = found, context
        context = click.Context(command, info_name=name, parent=outer)
    command.make_context(context.info_name, words, parent=outer)
