"""Signals that end a run reach its jobs: Snakemake alone lets them come to their end, which may take days."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import psutil


def reach_jobs() -> None:
    """From now on, what asks this process to end asks the programs of its jobs, too; training then leaves a
    checkpoint. To be called in the main thread, when Snakemake has its own handlers.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if callable(before):  # not what a shell has set to be ignored
            signal.signal(number, functools.partial(_pass_on, before))


def _pass_on(before: Callable[[int, FrameType | None], Any], number: int, frame: FrameType | None) -> None:
    # Shells and pipes end with the programs, whose last words still go through them; what a program has
    # started, it ends itself.
    for process in _programs(psutil.Process()):
        with contextlib.suppress(psutil.Error):
            process.terminate()
    before(number, frame)


def _programs(process: psutil.Process) -> Iterator[psutil.Process]:
    """The nearest Python processes below a process."""
    with contextlib.suppress(psutil.Error):
        for child in process.children():
            with contextlib.suppress(psutil.Error):
                if child.name().startswith("python"):
                    yield child
                else:
                    yield from _programs(child)
