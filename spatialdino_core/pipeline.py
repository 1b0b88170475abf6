"""Successive items through successive steps, overlapped: while one item is written, the next is computed
and the one after it is read. Threads, since what takes long here releases the interpreter lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Step = Callable[[Any], Any]


def pipelined(
    items: Iterable[Item], steps: Sequence[Step]
) -> Generator[tuple[Item, Future[Any]], None, None]:
    """Finished items in order, each with the future of its last step: its result or its error.

    Each step has one thread, so that items meet it in order; as many items are under way as there are steps,
    so that memory is bounded. A caller that stops early closes the generator; then nothing more is started.

    Parameters
    ----------
    items
        What to work on.
    steps
        The first takes an item, each of the others the result of the one before.
    """
    threads = [ThreadPoolExecutor(1) for _ in steps]
    under_way: deque[tuple[Item, Future[Any]]] = deque()
    try:
        for item in items:
            under_way.append((item, _chained(item, steps, threads)))
            if len(under_way) == len(steps):
                yield _finished(under_way)
        while under_way:
            yield _finished(under_way)
    finally:
        for thread in threads:
            thread.shutdown(wait=True, cancel_futures=True)


def _finished(under_way: deque[tuple[Item, Future[Any]]]) -> tuple[Item, Future[Any]]:
    item, future = under_way.popleft()
    future.exception()  # waits
    return item, future


def _continued(step: Step, before: Future[Any]) -> Any:
    return step(before.result())


def _chained(item: Item, steps: Sequence[Step], threads: Sequence[ThreadPoolExecutor]) -> Future[Any]:
    future = threads[0].submit(steps[0], item)
    for step, thread in zip(steps[1:], threads[1:], strict=True):
        future = thread.submit(_continued, step, future)
    return future
