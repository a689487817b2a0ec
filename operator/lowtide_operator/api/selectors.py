"""Label selectors, as Kubernetes has them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from lowtide_operator.api.model import Model, Rule
from lowtide_operator.api.values import LabelKey, LabelValue


class SelectorOperator(StrEnum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class SelectorRequirement(Model):
    """One requirement on a label."""

    rules = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
            "In and NotIn need values, Exists and DoesNotExist have none",
            lambda self: (self.operator in (SelectorOperator.IN, SelectorOperator.NOT_IN)) == bool(self.values),
        ),
    )

    key: LabelKey
    """The label's key."""
    operator: SelectorOperator
    """In, NotIn, Exists or DoesNotExist."""
    values: Annotated[
        tuple[LabelValue, ...], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """The values for In and NotIn."""


class LabelSelector(Model):
    """A label selector, as in a Deployment. Everything in it must hold; an empty one is refused."""

    rules = (
        Rule(
            "(has(self.matchLabels) && self.matchLabels.size() > 0)"
            " || (has(self.matchExpressions) && self.matchExpressions.size() > 0)",
            "an empty selector would take everything: say matchLabels or matchExpressions",
            lambda self: bool(self.match_labels) or bool(self.match_expressions),
        ),
    )

    match_labels: Annotated[Mapping[LabelKey, LabelValue], Field(max_length=16)] = Field(default_factory=dict)
    """Labels that must be there, with these values."""
    match_expressions: Annotated[
        tuple[SelectorRequirement, ...], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """Requirements that must be met."""


def selector_text(selector: Mapping[str, Any]) -> str:
    """A selector in the form in which the API server takes it as a parameter (`a=b,c in (d,e),!f`), from the form in
    which objects carry it; "" for one that says nothing."""
    terms = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for requirement in selector.get("matchExpressions") or ():
        key, values = requirement["key"], f"({','.join(requirement.get('values') or ())})"
        terms.append(
            {
                SelectorOperator.IN: f"{key} in {values}",
                SelectorOperator.NOT_IN: f"{key} notin {values}",
                SelectorOperator.EXISTS: key,
                SelectorOperator.DOES_NOT_EXIST: f"!{key}",
            }[SelectorOperator(requirement["operator"])]
        )
    return ",".join(terms)
