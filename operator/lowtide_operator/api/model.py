"""What all models of the API share: names in camelCase, rules that live in Python and in the CRD, whole objects.

A body is read by `parse`, a status written by `to_body`. Models are frozen and hold tuples: no plan changes what it was
given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from lowtide_operator.api.values import RULES, Timestamp, format_duration
from lowtide_operator.errors import InvalidObject

GROUP = "lowtide.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Rule(NamedTuple):
    """One condition over several fields, said twice: `cel` for the API server, `holds` for a model that was parsed.

    `holds` is None for rules that only an API server can check: those that compare with the object's former self.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None


class Model(BaseModel):
    """A frozen part of an object. Unknown fields are dropped, as the API server drops them."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        for rule in self.rules:
            if rule.holds is not None and not rule.holds(self):
                raise ValueError(rule.message)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema with this model's rules, and `{}` as the default of parts that are all defaults
        themselves."""
        schema = handler.resolve_ref_schema(handler(core))
        for name, field in cls.model_fields.items():
            factory = field.default_factory
            if isinstance(factory, type) and issubclass(factory, Model):
                schema["properties"][field.alias or name]["default"] = {}
            elif isinstance(field.default, timedelta):
                schema["properties"][field.alias or name]["default"] = format_duration(field.default)
        if cls.rules:
            schema[RULES] = [{"rule": rule.cel, "message": rule.message} for rule in cls.rules]
        return schema

    def to_body(self) -> dict[str, Any]:
        """This part as it is sent to the API server: camelCase, times and durations as text, nothing that is None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Metadata(Model):
    """What Lowtide reads of an object's metadata."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: Timestamp | None = None
    deletion_timestamp: Timestamp | None = None
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()


class Column(NamedTuple):
    """A column of `kubectl get`; priority 1 is shown with `-o wide` only."""

    name: str
    type: str
    path: str
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind is called. `short` is the short name for kubectl."""

    kind: str
    plural: str
    singular: str
    short: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()


class Resource(Model):
    """A whole object of ours: metadata, spec, status."""

    kind: ClassVar[Kind]
    metadata: Metadata

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.metadata.namespace, self.metadata.name


R = TypeVar("R", bound=Resource)


def parse(model: type[R], body: Mapping[str, Any]) -> R:
    """The object of kind `model` in `body`, as the API server sent it; raises InvalidObject with one line per fault."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        faults = "; ".join(_fault(detail["loc"], detail["msg"]) for detail in error.errors(include_url=False)[:5])
        name = (body.get("metadata") or {}).get("name", "without a name")
        raise InvalidObject(
            f"{model.kind.kind} {name} can't be read: {faults}.",
            hint="Correct the object, or apply the custom resource definitions of this version of Lowtide.",
        ) from error


def _fault(location: tuple[int | str, ...], message: str) -> str:
    path = ".".join(str(part) for part in location)
    return f"{path}: {message.removeprefix('Value error, ')}"
