"""`lowtide-stream` (or `python -m lowtide_operator.stream`): brings what a command in a running pod writes to the mover
beside it, which stores it.

It executes the command (lowtide_operator.execution) with its standard output into the FIFO that the mover makes, piece
by piece at the mover's pace, and writes last how the command ended (lowtide_engine.stream, Handover): 0 only where the
API server said that it ended with 0 and that all of its output came.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lowtide_operator.cluster.connection import NoCluster
from lowtide_operator.cluster.errors import ClusterError
from lowtide_operator.cluster.exec import ExecutingCluster
from lowtide_operator.execution import Execution, ExecutionFailed, add_target, end_on_sigterm, parse_command
from lowtide_operator.planning.mover_pods import NOT_EXECUTABLE

PIPE_FILE, STATUS_FILE = "stream", "status"
"""As lowtide_engine.stream has them, of which the operator imports nothing."""

FAILED = 125
"""The exit code of a failure that is not the command's own, as of env and timeout. NOT_EXECUTABLE is that of an
execution that is forbidden."""
STOPPED = 143
"""That of a program that SIGTERM ended."""
LOOK_SECONDS = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring the stream; why it failed goes to standard error. The exit code is that which the mover was told, and
    STOPPED, of which it is told nothing, where it was told to stop."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return asyncio.run(_run(options))
    except asyncio.CancelledError:
        print("It was told to stop.", file=sys.stderr, flush=True)
        return STOPPED


async def _run(options: argparse.Namespace) -> int:
    end_on_sigterm()
    folder = Path(options.handover)
    pipe = await Pipe.opened(folder / PIPE_FILE)
    try:
        print(await _bring(options, pipe), flush=True)
        code = 0
    except (ExecutionFailed, ClusterError, NoCluster) as error:
        print(error, file=sys.stderr, flush=True)
        code = _code_of(error)
    finally:
        pipe.close()
    part = folder / f"{STATUS_FILE}.part"
    part.write_text(f"{code}\n", encoding="ascii")
    part.rename(folder / STATUS_FILE)
    return code


def _code_of(error: Exception) -> int:
    """The command's own exit code where it ended with one."""
    if not isinstance(error, ExecutionFailed):
        return FAILED
    return error.code or (NOT_EXECUTABLE if error.reason == "Forbidden" else FAILED)


async def _bring(options: argparse.Namespace, pipe: Pipe) -> str:
    async with await ExecutingCluster.connect() as cluster:
        return await Execution(
            cluster,
            options.namespace,
            options.selector,
            options.container,
            options.command,
            stdout=pipe.write,
            to_the_end=True,
            patience=options.patience,
        ).run()


class Pipe:
    """The writing end of a FIFO that somebody reads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    async def opened(cls, path: Path) -> Pipe:
        """Wait until it is there and has a reader."""
        while True:
            try:
                return cls(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            except OSError as error:
                # ENXIO: nobody reads yet. EACCES: its reader has not opened it to others yet.
                if error.errno not in (errno.ENOENT, errno.ENXIO, errno.EACCES):
                    raise
            await asyncio.sleep(LOOK_SECONDS)

    async def write(self, data: bytes) -> None:
        """Write all of `data`, as fast as it is read. Raises ExecutionFailed where nobody reads any more."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                await self._writable()
            except BrokenPipeError:
                raise ExecutionFailed("StreamRefused", "The mover that stores the stream reads no more.") from None

    def close(self) -> None:
        """Say that this was all."""
        os.close(self._descriptor)

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._descriptor)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the arguments; the command is all that follows the first `--`, as it stands."""
    parser = argparse.ArgumentParser(
        prog="lowtide-stream", description="Brings what a command in one pod writes to the mover of a stream."
    )
    parser.add_argument("--handover", required=True, help="the folder that is shared with the mover")
    add_target(parser)
    parser.add_argument("--patience", required=True, type=float, help="how long to wait for the pod, in seconds")
    return parse_command(parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
