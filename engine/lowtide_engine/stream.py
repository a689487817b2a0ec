"""What becomes one file of a snapshot without ever lying on a disk: standard input, what a command prints, or what
another container of the same pod hands over.

A pipe's end says nothing about why it ended. So a stream is whole only if whoever wrote it says so: a command by its
exit code, a neighbour by a file that it writes last. Only standard input must be taken at its word, as in restic.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, cast

from lowtide_engine.errors import BadInput, EngineError, Interrupted
from lowtide_engine.repository.password import scrubbed

PIPE_FILE = "stream"
"""The FIFO in a handover's folder: its appearance says that the reader waits."""

STATUS_FILE = "status"
"""What a neighbour writes last into the folder: its exit code in decimal, and a newline."""

STATUS_SECONDS = 30.0
"""How long after the stream's end its writer may take to say how it ended."""

KILL_SECONDS = 5.0
"""How long a command that is told to end may take."""

TAIL_LINES = 3
WAIT_SECONDS = 0.05


class StreamFailed(EngineError):
    """Whoever wrote the stream failed, or did not say that it was whole; no snapshot is made of what came."""

    reason = "StreamFailed"
    default_hint = "no snapshot was written"


class StreamEmpty(EngineError):
    """Not one byte came, which no backup can be meant by."""

    reason = "StreamEmpty"
    default_hint = "no snapshot was written"


class OpenStream(Protocol):
    """A stream that is being read."""

    @property
    def descriptor(self) -> int:
        """What to read from, to its end."""

    def conclude(self) -> None:
        """Called after the end was read: StreamFailed unless the stream is known to be whole."""


class StreamSource(Protocol):
    """Where a stream comes from; nothing runs before it is opened."""

    def opened(self, stop: threading.Event) -> contextlib.AbstractContextManager[OpenStream]:
        """Begin. Leaving the context ends what was started; `stop` ends its waits."""


@dataclass(frozen=True, slots=True)
class StandardInput:
    """What somebody pipes into this program."""

    @contextmanager
    def opened(self, stop: threading.Event) -> Iterator[OpenStream]:
        """Nothing is started, and nothing can be known about how the stream ended. BadInput where it is closed."""
        if sys.stdin is None:
            raise BadInput("there is no standard input: it was closed", hint="pipe into it what is to be stored")
        yield _Given(sys.stdin.fileno())


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """The standard output of a command, which inherits the environment without the repository's secrets."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)

    @contextmanager
    def opened(self, stop: threading.Event) -> Iterator[OpenStream]:
        """Start it in a session of its own, so that all of it can be ended. StreamFailed where it can't be started."""
        try:
            process = subprocess.Popen(
                self.arguments,
                env=scrubbed(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise StreamFailed(f"could not start the command {self.arguments[0]}: {error.strerror}") from error
        try:
            yield _Running(process, self.arguments[0], stop)
        finally:
            _end(process)


@dataclass(frozen=True, slots=True)
class Handover:
    """What another container writes into a folder that both share: into the FIFO `stream`, which it waits for, and
    then its exit code into `status`."""

    folder: Path

    @contextmanager
    def opened(self, stop: threading.Event) -> Iterator[OpenStream]:
        """Make the FIFO and wait for its writer when it is read. StreamFailed where the folder can't be used."""
        pipe, status = self.folder / PIPE_FILE, self.folder / STATUS_FILE
        try:
            status.unlink(missing_ok=True)
            pipe.unlink(missing_ok=True)
            os.mkfifo(pipe)
            # Opened before it can be written to, and without waiting: a poll then tells the first writer's end from
            # there having been none yet.
            descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            pipe.chmod(0o622)
        except OSError as error:
            raise StreamFailed(f"no stream can be handed over in {self.folder}: {error.strerror}") from error
        try:
            yield _HandedOver(descriptor, status, stop)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Given:
    descriptor: int

    def conclude(self) -> None:
        pass


class _Running:
    def __init__(self, process: subprocess.Popen[bytes], name: str, stop: threading.Event) -> None:
        output, messages = cast("tuple[IO[bytes], IO[bytes]]", (process.stdout, process.stderr))
        self.descriptor = output.fileno()
        self._process = process
        self._name = name
        self._stop = stop
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self._reader = threading.Thread(target=self._read_messages, args=(messages,), daemon=True)
        self._reader.start()

    def conclude(self) -> None:
        while self._process.poll() is None:
            if self._stop.wait(WAIT_SECONDS):
                raise Interrupted("stopped by a signal before it was done", hint="run it again")
        code = self._process.returncode
        if code == 0:
            return
        # What is left of its messages is there already; a child that outlives it may keep the pipe open.
        self._reader.join(1.0)
        how = f"was ended by signal {-code}" if code < 0 else f"failed with code {code}"
        said = f": {' / '.join(self._tail)}" if self._tail else ""
        raise StreamFailed(f"the command {self._name} {how}{said}")

    def _read_messages(self, messages: IO[bytes]) -> None:
        with messages:
            for line in messages:
                text = line.decode(errors="backslashreplace").rstrip()[:300]
                if text:
                    self._tail.append(text)
                    print(f"{self._name}: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class _HandedOver:
    descriptor: int
    status: Path
    stop: threading.Event

    def conclude(self) -> None:
        deadline = time.monotonic() + STATUS_SECONDS
        while (said := self._said()) is None:
            if self.stop.wait(WAIT_SECONDS):
                raise Interrupted("stopped by a signal before it was done", hint="run it again")
            if time.monotonic() >= deadline:
                raise StreamFailed(
                    "the stream was cut: it ended, and whoever wrote it did not say how, as where it was killed"
                )
        if said != "0":
            raise StreamFailed(f"the command that wrote the stream failed with code {said}; its log says why")

    def _said(self) -> str | None:
        try:
            text = self.status.read_text()
        except OSError:
            return None
        return text.strip() if text.endswith("\n") else None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command that still runs, and all that it started."""
    if process.stdout is not None:
        process.stdout.close()
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(KILL_SECONDS)
            return
