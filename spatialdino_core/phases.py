"""What the time of a step goes to: phases within it, told apart where they happen. Wall time, s."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

PHASES = ("read", "compute", "write", "wait")

clock = time.monotonic
processor_clock = time.process_time
_inside: ContextVar[dict[str, float] | None] = ContextVar("inside", default=None)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Count the time of what is inside for another phase than the step around it.

    Phases do not contain phases. Outside a step nothing is counted.
    """
    inside, started = _inside.get(), clock()
    try:
        yield
    finally:
        if inside is not None:
            inside[name] = inside.get(name, 0.0) + clock() - started


def told_apart(name: str, step: Callable[[Any], Any], value: Any) -> tuple[Any, dict[str, float]]:
    """Result of a step, and its seconds by phase: its own name, and the phases inside it."""
    inside: dict[str, float] = {}
    token, started = _inside.set(inside), clock()
    try:
        result = step(value)
    finally:
        _inside.reset(token)
    return result, inside | {name: inside.get(name, 0.0) + clock() - started - sum(inside.values())}
