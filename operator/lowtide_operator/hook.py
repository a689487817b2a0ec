"""`lowtide-hook` (or `python -m lowtide_operator.hook`): the program of a hook's Job.

It executes a command in a running pod (lowtide_operator.execution), throws its standard output away, and writes down
what came of it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lowtide_engine.contract import RESULT_FILE_VARIABLE, Outcome, Result, encode
from lowtide_operator.cluster.connection import NoCluster
from lowtide_operator.cluster.errors import ClusterError
from lowtide_operator.cluster.exec import ExecutingCluster
from lowtide_operator.execution import Execution, ExecutionFailed, add_target, end_on_sigterm, parse_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the hook; its result goes to the log and to the file that LOWTIDE_RESULT_FILE names. The exit code is 0 or
    1."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    began = time.monotonic()
    try:
        result = Result("hook", Outcome.OK, "Done", asyncio.run(_run(options)))
    except (ExecutionFailed, ClusterError) as error:
        result = Result("hook", Outcome.FAILED, error.reason, str(error))
    except NoCluster as error:
        result = Result("hook", Outcome.FAILED, "NoCluster", str(error))
    document = encode(replace(result, seconds=round(time.monotonic() - began, 3)))
    if path := os.environ.get(RESULT_FILE_VARIABLE):
        Path(path).write_bytes(document)
    print(document.decode(), flush=True)
    return 0 if result.outcome is Outcome.OK else 1


async def _run(options: argparse.Namespace) -> str:
    """What there is to say of a hook that succeeded. Raises ExecutionFailed, ClusterError, NoCluster."""
    end_on_sigterm()
    async with await ExecutingCluster.connect() as cluster:
        hook = Execution(cluster, options.namespace, options.selector, options.container, options.command)
        try:
            async with asyncio.timeout(options.timeout):
                return await hook.run()
        except TimeoutError:
            hook.give_up("TimedOut", f"It was not done within {options.timeout:g} s")
        except asyncio.CancelledError:
            hook.give_up("Stopped", "Its pod was told to stop")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the arguments; the command is all that follows the first `--`, as it stands."""
    parser = argparse.ArgumentParser(prog="lowtide-hook", description="Executes a command in one pod, once.")
    parser.add_argument("--hook", required=True, help="the name of the hook")
    add_target(parser)
    parser.add_argument("--timeout", required=True, type=float, help="how long all of it may take, in seconds")
    return parse_command(parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
