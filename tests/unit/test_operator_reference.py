"""docs/reference/operator.md names every setting and every metric, and nothing that is not there."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from lowtide_operator.settings import PREFIX, Settings
from lowtide_operator.telemetry import Metrics

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "operator.md").read_text()


def test_every_setting_is_documented_with_its_default() -> None:
    named = set(re.findall(rf"`({PREFIX}[A-Z_]+)`", PAGE))
    assert named == {PREFIX + field.name.upper() for field in dataclasses.fields(Settings)}
    for field in dataclasses.fields(Settings):
        if isinstance(field.default, int | float):
            (row,) = [
                line for line in PAGE.splitlines() if line.startswith("|") and f"`{PREFIX}{field.name.upper()}`" in line
            ]
            default = field.default
            assert (str(default).lower() if isinstance(default, bool) else f"{default:g}") in row


def test_every_metric_is_documented() -> None:
    metrics = Metrics()
    real = {
        f"{family.name}_total" if family.type == "counter" else family.name for family in metrics.registry.collect()
    }
    assert set(re.findall(r"`(lowtide_[a-z_]+)`", PAGE)) == real
