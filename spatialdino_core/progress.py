"""Progress of long work: a bar on a terminal, plain rate-limited lines in a log.

A thin wrapper around tqdm, which lacks the second half: in a log file its carriage returns pile up
into one unreadable line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
LOG_INTERVAL_S = 10.0


def progress(
    items: Iterable[Item], description: str, unit: str, *, total: int | None = None, done: int = 0
) -> Iterator[Item]:
    """Iterate over ``items`` and report how many are done, how fast, and how long it will take.

    Parameters
    ----------
    items
        What to iterate over.
    description
        What is being done, e.g. ``"deskew cell_1"``.
    unit
        What one item is, in the singular, e.g. ``"frame"``.
    total
        Number of items, ``done`` included; by default ``done + len(items)`` where it has a length.
    done
        Items finished by an earlier, interrupted run; they count as done but not towards the rate.
    """
    if total is None and isinstance(items, Sized):
        total = done + len(items)
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, unit=f" {unit}", total=total, initial=done, smoothing=0.1)
        return
    yield from _log_lines(items, description, unit, total, done)


def _log_lines(
    items: Iterable[Item], description: str, unit: str, total: int | None, done: int
) -> Iterator[Item]:
    start = last = time.monotonic()
    count = done
    for item in items:
        yield item
        count += 1
        now = time.monotonic()
        if now - last >= LOG_INTERVAL_S or count == total:
            rate = (count - done) / max(now - start, 1e-9)
            left = f", {(total - count) / rate:.0f} s left" if total is not None else ""
            of = f"/{total}" if total is not None else ""
            print(
                f"{description}: {count}{of} {unit}s, {rate:.2g} {unit}s/s{left}", file=sys.stderr, flush=True
            )
            last = now
