"""One key, one worker; nothing that was asked for while working is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from lowtide_operator.reconcile.queue import WorkQueue

Handle = Callable[[str], Awaitable[float | None]]


@contextlib.asynccontextmanager
async def working(queue: WorkQueue[str], handle: Handle, workers: int = 2) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(queue.work(handle)) for _ in range(workers)]
    try:
        yield
    finally:
        queue.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_key_is_never_worked_on_twice_at_once_and_is_done_again_when_asked_meanwhile() -> None:
    queue: WorkQueue[str] = WorkQueue()
    running, most, done = 0, 0, []
    go, entered, twice = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(key: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        entered.set()
        await go.wait()
        running -= 1
        done.append(key)
        if len(done) == 2:
            twice.set()

    async with asyncio.timeout(5), working(queue, handle):
        queue.add("a")
        await entered.wait()
        for _ in range(5):
            queue.add("a")
        go.set()
        await twice.wait()
    assert done == ["a", "a"]
    assert most == 1


async def test_the_earliest_time_that_was_asked_for_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    seen = asyncio.Event()

    async def handle(key: str) -> None:
        seen.set()

    async with asyncio.timeout(5), working(queue, handle):
        queue.add_after("a", 3600)
        queue.add_after("a", 0.01)
        queue.add_after("a", 1800)
        await seen.wait()


async def test_a_key_comes_again_after_the_seconds_that_its_handling_answers() -> None:
    queue: WorkQueue[str] = WorkQueue()
    times = 0
    thrice = asyncio.Event()

    async def handle(key: str) -> float | None:
        nonlocal times
        times += 1
        if times == 3:
            thrice.set()
            return None
        return 0.01

    async with asyncio.timeout(5), working(queue, handle):
        queue.add("a")
        await thrice.wait()


async def test_a_worker_outlives_what_nobody_foresaw(caplog: pytest.LogCaptureFixture) -> None:
    queue: WorkQueue[str] = WorkQueue()
    seen = asyncio.Event()

    async def handle(key: str) -> None:
        if key == "bad":
            raise ValueError("unforeseen")
        seen.set()

    async with asyncio.timeout(5), working(queue, handle, workers=1):
        queue.add("bad")
        queue.add("good")
        await seen.wait()
    assert "unforeseen" in caplog.text


async def test_at_the_end_what_is_worked_on_is_finished_and_nothing_more_begins() -> None:
    queue: WorkQueue[str] = WorkQueue()
    go, entered, done = asyncio.Event(), asyncio.Event(), []

    async def handle(key: str) -> None:
        entered.set()
        await go.wait()
        done.append(key)

    async with asyncio.timeout(5), working(queue, handle, workers=1):
        queue.add("a")
        queue.add("b")
        await entered.wait()
        queue.close()
        assert not await queue.finish(0.01)
        go.set()
        assert await queue.finish(5)
    assert done == ["a"]
