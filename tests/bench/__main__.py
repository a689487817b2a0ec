"""`make bench`: every measurement in this folder, one after the other; with names, only those (`operator`)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

SUFFIX = "_bench"


def main(names: list[str]) -> int:
    """Run the modules `<name>_bench`; each has a `main(arguments)` that prints what it measured."""
    known = sorted(path.stem.removesuffix(SUFFIX) for path in Path(__file__).parent.glob(f"*{SUFFIX}.py"))
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no such measurement: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    worst = 0
    for name in names or known:
        print(f"\n{name}", flush=True)
        worst = max(worst, importlib.import_module(f"tests.bench.{name}{SUFFIX}").main([]))
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
