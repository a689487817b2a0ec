"""`make bench`: every measurement in this folder, one after the other; with names, only those (`operator`).

What follows the names and begins with a dash goes to each of them: `python -m tests.bench engine --cases small`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

SUFFIX = "_bench"


def main(given: list[str]) -> int:
    """Run the modules `<name>_bench`; each has a `main(arguments)` that prints what it measured."""
    end = next((number for number, argument in enumerate(given) if argument.startswith("-")), len(given))
    names, arguments = given[:end], given[end:]
    known = sorted(path.stem.removesuffix(SUFFIX) for path in Path(__file__).parent.glob(f"*{SUFFIX}.py"))
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no such measurement: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    worst = 0
    for name in names or known:
        print(f"\n{name}", flush=True)
        worst = max(worst, importlib.import_module(f"tests.bench.{name}{SUFFIX}").main(arguments))
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
