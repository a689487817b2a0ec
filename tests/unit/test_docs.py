"""What the docs show works as it stands: links lead somewhere, objects are valid, commands and options are there."""

from __future__ import annotations

import contextlib
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
from lowtide_operator.planning import naming
from lowtide_operator.reconcile.gather import PRIVILEGED_ANNOTATION

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob("charts/*/README.md")]
CHART = CHECKOUT / "charts" / "lowtide"
NOTES = CHART / "templates" / "NOTES.txt"
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


def commands(page: Path) -> Iterator[str]:
    """The command lines of a page, each on one line, without what they read from a document behind them."""
    for text in [page.read_text()] if page == NOTES else blocks(page, "sh"):
        alone = re.sub(r"(<<'?(\w+)'?.*\n)(?:.*\n)*? *\2$", r"\1", text, flags=re.MULTILINE)
        for line in alone.replace("\\\n", " ").splitlines():
            if page != NOTES or line.startswith("   kubectl "):
                yield line.strip()


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
    """Those of restic too: ours have its names."""
    for line in commands(page):
        if line.startswith(("lowtide ", "restic ")):
            check(shlex.split(re.split(" [|>] ", line)[0], comments=True)[1:])
    for line in re.findall(r"`((?:lowtide|restic) [^`…]+)`", page.read_text()):
        with contextlib.suppress(click.MissingParameter, click.BadOptionUsage):  # A sentence need not say all of it.
            check(shlex.split(line)[1:])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_labels_annotations_and_values_of_the_chart_are_there(page: Path) -> None:
    for name in re.findall(r"(?<![\w.])lowtide\.dev/[\w-]*\w", page.read_text()):
        assert name in [API_VERSION, PRIVILEGED_ANNOTATION, *vars(naming).values()], f"nothing is called {name}"
    for name in re.findall(r"--set '?([a-z][\w.]*)=", page.read_text()):
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        for part in name.split("."):
            assert part in values, f"the chart has no value {name}"
            values = values[part]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_namespaces_are_made_before_the_chart_that_serves_them(page: Path) -> None:
    """It makes a RoleBinding in each, and Helm fails where one is not there."""
    there: set[str] = set()
    for line in commands(page):
        there |= set(re.findall(r"kubectl create namespace ([\w-]+)", line))
        if line.startswith("helm install "):
            for names in re.findall(r"'namespaces=\{(.+?)\}'", line):
                assert set(names.split(",")) <= there, line


@pytest.mark.parametrize("page", [*PAGES, NOTES], ids=name_of)
def test_no_password_is_among_the_arguments_of_a_command(page: Path) -> None:
    """Arguments are seen by every user of a machine, and stay in the shell's history."""
    for line in commands(page):
        assert not re.search(r"(PASSWORD|PASSPHRASE|SECRET_ACCESS_KEY)\W*[=:]", line), line


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
