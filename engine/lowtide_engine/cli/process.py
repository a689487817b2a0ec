"""One run of the program: signals, exit code, and the result document that is written whatever happens.

The command runs on a worker thread; the main thread only waits, so that a signal is handled at once even while the
kernel or a storage is busy. Exit codes are restic's: 0 done, 1 failed, 3 some files could not be read, 10 no
repository, 11 locked, 12 wrong password, 130 stopped by SIGINT or SIGTERM.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import FrameType

from lowtide_engine.cli.signals import at_prompt, held, stop
from lowtide_engine.contract import RESULT_FILE_VARIABLE, Outcome, Result, encode

GRACE_SECONDS = 15.0
"""How long a stopped command may take to put its things in order: transfer's 14 to write down what is stored, and some
to give back its lock."""

LET_GO_SECONDS = 3.0
"""How long giving back the lock may take where the command hangs; under 20 s in all, with the result and the end."""

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
EXIT_CODES = {Outcome.OK: 0, Outcome.PARTIAL: 3, Outcome.FAILED: EXIT_FAILED}


@dataclass(frozen=True, slots=True)
class Ended:
    """How the command ended, and with which exit code."""

    result: Result
    exit_code: int


def run(arguments: Sequence[str]) -> int:
    """Run the program with these arguments; its exit code. Called once per process, on the main thread."""
    _handle_signals()
    _write_no_core()
    arguments = _separated_verbosity(arguments)
    name = _command_name(arguments)
    started = time.monotonic()
    ended: list[Ended] = []
    worker = threading.Thread(target=lambda: ended.append(_invoke(arguments, name)), name="command", daemon=True)
    worker.start()
    _wait_for(worker)
    if not ended:
        seconds = f"after {GRACE_SECONDS:.0f} seconds" if not at_prompt.is_set() else "at a prompt"
        message = f"lowtide {name} was stopped by a signal and ended by force {seconds}; run it again to go on"
        ended.append(Ended(Result(name, Outcome.FAILED, "Interrupted", message), EXIT_INTERRUPTED))
        _complain(arguments, message, EXIT_INTERRUPTED)
        _let_go()
    exit_code = ended[0].exit_code
    if not _write_result(replace(ended[0].result, seconds=round(time.monotonic() - started, 3))) and exit_code == 0:
        exit_code = EXIT_FAILED
    _flush_output()
    if worker.is_alive():
        os._exit(exit_code)
    return exit_code


def _handle_signals() -> None:
    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _write_no_core() -> None:
    """A crash must not leave this memory on a disk: keys are in it."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def _wait_for(worker: threading.Thread) -> None:
    while worker.is_alive() and not stop.is_set():
        worker.join(0.5)
    deadline = time.monotonic() + GRACE_SECONDS
    while worker.is_alive() and not at_prompt.is_set() and time.monotonic() < deadline:
        worker.join(0.1)


def _let_go() -> None:
    """Give back what a command holds that hangs in a storage: its lock would keep others out for half an hour."""
    releases = [threading.Thread(target=release, name="let go", daemon=True) for release in [*held]]
    for thread in releases:
        thread.start()
    deadline = time.monotonic() + LET_GO_SECONDS
    for thread in releases:
        thread.join(max(0.0, deadline - time.monotonic()))


def _invoke(arguments: Sequence[str], name: str) -> Ended:
    import click

    from lowtide_engine.cli.root import root_command

    try:
        outcome = root_command().main(list(arguments), prog_name="lowtide", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return _failed(arguments, name, "BadArguments", "no command was given", EXIT_FAILED, silent=True)
    except click.ClickException as error:
        message = (
            f"{error.format_message()} (see lowtide {name} --help)" if name != "lowtide" else error.format_message()
        )
        return _failed(arguments, name, "BadArguments", message, EXIT_FAILED)
    except (BrokenPipeError, SystemExit):
        # click exits where the reader of a pipe went away.
        return _failed(arguments, name, "OutputClosed", "whoever read the output went away", EXIT_FAILED, silent=True)
    except BaseException as error:
        return _from_exception(arguments, name, error)
    if isinstance(outcome, Result):
        return Ended(outcome, _exit_code(outcome))
    return Ended(Result(name, Outcome.OK, "Completed"), 0)


def _exit_code(result: Result) -> int:
    # restic knows 3 for a backup; a restore that is not all as it was ends with 1 there.
    if result.outcome is Outcome.PARTIAL and result.command == "restore":
        return EXIT_FAILED
    return EXIT_CODES[result.outcome]


def _from_exception(arguments: Sequence[str], name: str, error: BaseException) -> Ended:
    reason = getattr(error, "reason", None)
    if not isinstance(reason, str):
        traceback.print_exc()
        message = f"lowtide {name} failed by a fault of its own: {type(error).__name__}: {error}; please report it"
        return _failed(arguments, name, "InternalError", message, EXIT_FAILED)
    return _failed(arguments, name, reason, str(error), int(getattr(error, "exit_code", EXIT_FAILED)))


def _failed(
    arguments: Sequence[str], name: str, reason: str, message: str, exit_code: int, *, silent: bool = False
) -> Ended:
    if not silent:
        _complain(arguments, message, exit_code)
    return Ended(Result(name, Outcome.FAILED, reason, message), exit_code)


def _complain(arguments: Sequence[str], message: str, exit_code: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        if "--json" in arguments:
            text = json.dumps({"message_type": "exit_error", "code": exit_code, "message": message})
        else:
            text = f"lowtide: {message}"
        print(text, file=sys.stderr, flush=True)


def _write_result(result: Result) -> bool:
    """Write the result where LOWTIDE_RESULT_FILE says. In place: the kubelet bind-mounts that file."""
    path = os.environ.get(RESULT_FILE_VARIABLE)
    if not path:
        return True
    try:
        with open(path, "wb") as file:
            file.write(encode(result))
    except OSError as error:
        print(f"lowtide: the result could not be written to {path}: {error.strerror}", file=sys.stderr)
        return False
    return True


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _separated_verbosity(arguments: Sequence[str]) -> list[str]:
    """`--verbose=2` is restic's way to write -v -v."""
    separated: list[str] = []
    for argument in arguments:
        level = argument.removeprefix("--verbose=")
        if level != argument and level.isdigit():
            separated += ["-v"] * min(int(level), 2)
        else:
            separated.append(argument)
    return separated


def _command_name(arguments: Sequence[str]) -> str:
    from lowtide_engine.cli.root import COMMANDS

    return next((argument for argument in arguments if argument in COMMANDS), "lowtide")
