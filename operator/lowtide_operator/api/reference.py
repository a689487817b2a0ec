"""The reference pages of the API, written from the custom resource definitions, so that they say what the API server
says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lowtide_operator.api.values import RULES


def page(definition: Mapping[str, Any]) -> str:
    """One Markdown page for a custom resource definition: what it is for, then a table each for its spec and its
    status."""
    names = definition["spec"]["names"]
    version = definition["spec"]["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    lines = [
        f"# {names['kind']}",
        "",
        root["description"],
        "",
        f"`{definition['spec']['group']}/{version['name']}`, namespaced; short name `{names['shortNames'][0]}`, "
        f"category `{names['categories'][0]}`. This page is generated from the models.",
        "",
    ]
    if rules := root.get(RULES):
        lines += [*(f"- {_sentence(rule['message'])}" for rule in rules), ""]
    for part in ("spec", "status"):
        schema = root["properties"][part]
        lines += [f"## {part}", "", schema["description"], ""]
        if rules := schema.get(RULES):
            lines += [*(f"- {_sentence(rule['message'])}" for rule in rules), ""]
        lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{path}` | {_cell(kind)} | {_cell(default)} | {_cell(meaning)} |"
            for path, kind, default, meaning in _rows(schema)
        ]
        lines.append("")
    return "\n".join(lines)


def _rows(schema: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    required = schema.get("required", [])
    for name, node in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        default = "required" if name in required else _default(node.get("default", ""))
        yield path, _type(node), default, _meaning(node)
        if node.get("type") == "array":
            yield from _rows(node["items"], f"{path}[].")
        else:
            yield from _rows(node, f"{path}.")


def _default(value: Any) -> str:
    if value in ("", {}):
        return ""
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _type(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    kind = str(node["type"])
    if kind == "array":
        return f"list of {_type(node['items'])}" if node["items"]["type"] != "object" else "list"
    if kind == "object" and "additionalProperties" in node:
        return f"map of {_type(node['additionalProperties'])}"
    return str(node.get("format", kind)) if kind == "string" else kind


def _meaning(node: Mapping[str, Any]) -> str:
    inner = node.get("items", {}) if node.get("type") == "array" else {}
    rules = [rule["message"] for rule in (*node.get(RULES, []), *inner.get(RULES, []))]
    return " ".join([node.get("description", ""), *(f"*{_sentence(rule)}*" for rule in dict.fromkeys(rules))]).strip()


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
