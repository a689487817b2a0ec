"""docs/reference/workloads.md promises nothing that no test shows, and no test shows what it does not tell."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "reference" / "workloads.md"


def rows() -> list[str]:
    """The first cell of every row."""
    return re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(), re.MULTILINE)


def shown() -> Iterator[str]:
    """The rows that tests are marked with: `@pytest.mark.zoo(…)` on a function that pytest collects."""
    for folder in ("integration", "e2e"):
        for path in sorted((CHECKOUT / "tests" / folder).glob("test_*.py")):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    for mark in node.decorator_list:
                        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.zoo":
                            yield from (ast.literal_eval(row) for row in mark.args)


def test_every_row_has_a_test_and_every_mark_a_row() -> None:
    assert len(rows()) == len(set(rows())) > 30
    assert set(shown()) == set(rows())
