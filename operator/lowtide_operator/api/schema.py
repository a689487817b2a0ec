"""From a model to a structural schema: what a custom resource definition may hold, and nothing that it may not.

Pydantic's JSON schema uses $ref, anyOf with null, const and titles, which the API server refuses or drops. A
definition's spec keeps bounds, rules and defaults; its status keeps types and list types only, because a status is
written by the operator, and losing it to a bound would lose the ledger.
"""

from __future__ import annotations

from typing import Any

from lowtide_operator.api.model import Model
from lowtide_operator.api.values import RULES

Schema = dict[str, Any]

_KEPT = (
    "type",
    "format",
    "enum",
    "default",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "minimum",
    "maximum",
    "pattern",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    RULES,
)
_STATUS_KEPT = frozenset(
    {"type", "format", "enum", "x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"}
)
_READ = ("$defs", "$ref", "additionalProperties", "anyOf", "const", "items", "properties", "required")
_DROPPED = ("description", "propertyNames", "title")
_UNDERSTOOD = frozenset((*_KEPT, *_READ, *_DROPPED))


class SchemaError(TypeError):
    """A model says something that a structural schema can't; the text names the place."""


def structural(model: type[Model], *, status: bool = False) -> Schema:
    """The structural schema of `model`. Raises SchemaError where the model can't be told to the API server."""
    raw = model.model_json_schema(by_alias=True)
    return _node(raw, raw.get("$defs", {}), model.__name__, status)


def _node(raw: Schema, definitions: Schema, place: str, status: bool) -> Schema:
    merged = _resolved(raw, definitions, place)
    unknown = set(merged) - _UNDERSTOOD
    if unknown:
        raise SchemaError(f"{place}: {', '.join(sorted(unknown))} can't be said in a structural schema")
    node: Schema = {}
    if description := merged.get("description"):
        node["description"] = " ".join(description.split())
    for key in _KEPT:
        if key in merged and (not status or key in _STATUS_KEPT):
            node[key] = merged[key]
    if node.get("default", ...) in (None, []):
        del node["default"]
    if node.get("type") == "integer":
        node.setdefault("format", "int64")
    if "x-kubernetes-int-or-string" in node:
        node.pop("type", None)
    elif "type" not in node:
        raise SchemaError(f"{place}: has no type")
    if node.get("type") == "array":
        node["items"] = _node(merged["items"], definitions, f"{place}[]", status)
        if "x-kubernetes-list-type" not in node:
            raise SchemaError(f"{place}: a list must say its x-kubernetes-list-type")
    if properties := merged.get("properties"):
        if required := merged.get("required"):
            node["required"] = required
        node["properties"] = {
            name: _node(child, definitions, f"{place}.{name}", status) for name, child in properties.items()
        }
    elif node.get("type") == "object":
        node["additionalProperties"] = _node(merged["additionalProperties"], definitions, f"{place}{{}}", status)
    return node


def _resolved(raw: Schema, definitions: Schema, place: str) -> Schema:
    """`raw` with $ref, `anyOf: [x, null]` and const replaced by what they stand for; what stands outside wins."""
    merged = dict(raw)
    while "$ref" in merged or "anyOf" in merged:
        if "$ref" in merged:
            inner = definitions[merged.pop("$ref").removeprefix("#/$defs/")]
        else:
            choices = [choice for choice in merged.pop("anyOf") if choice.get("type") != "null"]
            if len(choices) != 1:
                raise SchemaError(f"{place}: a choice between types can't be said in a structural schema")
            inner = choices[0]
        both = merged.get(RULES, []) + inner.get(RULES, [])
        merged = {**inner, **merged, **({RULES: both} if both else {})}
    if "const" in merged:
        merged["enum"] = [merged.pop("const")]
    return merged
