"""The program of a hook's Job: which pod it takes, how often it executes, and what it quotes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lowtide_engine.contract import Outcome, decode
from lowtide_operator import execution
from lowtide_operator import hook as program
from lowtide_operator.cluster.connection import NoCluster
from lowtide_operator.cluster.errors import Forbidden, Unreachable
from lowtide_operator.cluster.exec import Ended, ExecCut, ExecRefused, Sink, SlowSink
from lowtide_operator.execution import Execution, ExecutionFailed
from lowtide_operator.planning.naming import MANAGED_BY, MANAGED_BY_LABEL, RUN_LABEL


def pod(name: str = "db-0", *containers: str, ready: bool = True, phase: str = "Running", **metadata: Any) -> Any:
    names = containers or ("db",)
    states = [{"name": each, "ready": ready} for each in names]
    return {
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [{"name": each} for each in names]},
        "status": {"phase": phase, "containerStatuses": states},
    }


class Played:
    """A cluster whose lists and executions end one after the other as they are given; the last goes on for ever."""

    def __init__(self, *lists: Any, ends: Sequence[int | Exception] = (0,), stderr: bytes = b"") -> None:
        self.lists = list(lists)
        self.ends = list(ends)
        self.stderr = stderr
        self.executed: list[tuple[str, str, tuple[str, ...]]] = []

    async def list(self, kind: object, namespace: str, *, labels: str) -> list[Any]:
        found = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if isinstance(found, Exception):
            raise found
        assert (namespace, labels) == ("shop", "app=db")
        return found  # type: ignore[no-any-return]

    async def execute(
        self, namespace: str, pod: str, container: str, command: Sequence[str], *, stdout: SlowSink, stderr: Sink
    ) -> Ended:
        self.executed.append((pod, container, tuple(command)))
        await stdout(b"the secret of the shop\n")
        stderr(self.stderr)
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        if end < 0:
            await asyncio.Event().wait()
        return Ended(end, whole=False)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "LOOK_SECONDS", 0)


async def run(cluster: Played, container: str = "", patience: float = 10) -> str:
    hook = Execution(cluster, "shop", "app=db", container, ["sync"])  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(patience):
            return await hook.run()
    except TimeoutError:
        hook.give_up("TimedOut", "It was not done in time")


async def failure(cluster: Played, container: str = "", patience: float = 10) -> tuple[str, str]:
    with pytest.raises(ExecutionFailed) as caught:
        await run(cluster, container, patience)
    assert "the secret of the shop" not in str(caught.value), "standard output is nobody's business"
    return caught.value.reason, str(caught.value)


OURS = {RUN_LABEL: "a run", MANAGED_BY_LABEL: MANAGED_BY}


async def test_it_waits_for_the_one_pod_to_be_ready_and_executes_once() -> None:
    others = [
        pod("going", deletionTimestamp="2026-11-27T00:00:00Z"),
        pod("done", phase="Succeeded"),
        pod("ours", labels=OURS),
    ]
    cluster = Played([], [*others, pod(ready=False)], Unreachable("restarting"), [*others, pod()])
    said = await run(cluster)
    assert cluster.executed == [("db-0", "db", ("sync",))]
    assert "exit code 0 in pod db-0, container db" in said


@pytest.mark.parametrize(
    ("pods", "container", "reason", "words"),
    [
        pytest.param([], "", "PodMissing", "no pod in namespace shop has the labels app=db", id="no pod"),
        pytest.param([pod("db-0"), pod("db-1")], "", "SeveralPods", "db-0, db-1", id="two pods"),
        pytest.param([pod(ready=False)], "", "PodNotReady", "db of pod db-0 is not ready", id="not ready"),
        pytest.param([pod("a", "db", "log")], "", "ContainerUnknown", "say one of db, log", id="which container"),
        pytest.param([pod()], "web", "ContainerUnknown", "no container web", id="no such container"),
    ],
)
async def test_a_pod_that_can_not_be_told_is_a_failure_and_nothing_is_executed(
    pods: list[Any], container: str, reason: str, words: str
) -> None:
    cluster = Played(pods)
    found, said = await failure(cluster, container, patience=0.01)
    assert (found, cluster.executed) == (reason, [])
    assert words in said
    assert "not started" in said


async def test_a_command_that_fails_is_quoted_by_the_last_lines_of_its_standard_error() -> None:
    noise = b"\x1b[31mline 1\x1b[0m\n\nline 2\nline 3\n\xffFATAL: no such role\n"
    reason, said = await failure(Played([pod()], ends=[3], stderr=noise))
    assert reason == "CommandFailed"
    assert "exit code 3 in pod db-0, container db" in said
    assert said.endswith("line 2 / line 3 / �FATAL: no such role")


async def test_a_long_complaint_is_cut_at_its_beginning() -> None:
    _, said = await failure(Played([pod()], ends=[1], stderr=b"x" * 9000 + b" the end"))
    quoted = said.partition("last words: ")[2]
    assert len(quoted) == execution.QUOTED
    assert quoted.startswith("…")
    assert quoted.endswith(" the end")


async def test_nothing_is_quoted_of_a_command_that_went_well() -> None:
    assert "password" not in await run(Played([pod()], stderr=b"using the password hunter2\n"))


async def test_where_the_command_was_certainly_not_begun_it_is_tried_again() -> None:
    cluster = Played([pod()], ends=[Unreachable("the kubelet restarts"), 0])
    await run(cluster)
    assert len(cluster.executed) == 2


@pytest.mark.parametrize(
    ("end", "reason", "words"),
    [
        pytest.param(ExecCut("torn"), "ExecCut", "may still be running", id="a connection that is cut"),
        pytest.param(Forbidden("no"), "Forbidden", "exec.namespaces", id="no right"),
        pytest.param(-1, "TimedOut", "may still be running", id="no end"),
    ],
)
async def test_a_command_that_may_have_begun_is_never_executed_again(
    end: int | Exception, reason: str, words: str
) -> None:
    cluster = Played([pod()], ends=[end])
    found, said = await failure(cluster, patience=0.05 if end == -1 else 10)
    assert (found, len(cluster.executed)) == (reason, 1)
    assert words in said


# --- the result


ARGUMENTS = ["--hook=before-1", "--namespace=shop", "--selector=app=db", "--timeout=5", "--", "sh", "-c", "--", "x"]


def test_the_command_is_all_that_follows_as_it_stands() -> None:
    options = program.parse(ARGUMENTS)
    assert (options.command, options.timeout, options.container) == (["sh", "-c", "--", "x"], 5, "")
    with pytest.raises(SystemExit):
        program.parse(ARGUMENTS[:-4])


@pytest.mark.parametrize(
    ("end", "code", "outcome", "reason"),
    [
        ("done", 0, Outcome.OK, "Done"),
        (ExecutionFailed("TimedOut", "why"), 1, Outcome.FAILED, "TimedOut"),
        (ExecRefused("no such program"), 1, Outcome.FAILED, "ExecRefused"),
        (NoCluster("nowhere"), 1, Outcome.FAILED, "NoCluster"),
    ],
)
def test_its_result_is_a_document_that_the_operator_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str | Exception, code: int, outcome: Outcome, reason: str
) -> None:
    async def ended(options: object) -> str:
        if isinstance(end, Exception):
            raise end
        return end

    monkeypatch.setattr(program, "_run", ended)
    monkeypatch.setenv("LOWTIDE_RESULT_FILE", str(tmp_path / "result"))
    assert program.main(ARGUMENTS) == code
    result = decode((tmp_path / "result").read_bytes())
    assert (result.command, result.outcome, result.reason) == ("hook", outcome, reason)
    assert result.message
