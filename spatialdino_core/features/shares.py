"""Several processes of one job share its frames: who owns which, on which device, and how they are started.

A process owns every n-th frame and no other. Not how several jobs share a movie (``movies/part.py``).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch

from spatialdino_core.errors import BadInputError

Share = TypeVar("Share")


def owned(frames: Sequence[int], rank: int, processes: int) -> list[int]:
    """Frames of one process: each belongs to exactly one, and neighbours to different ones."""
    return list(frames[rank::processes])


def devices(device: torch.device, processes: int) -> list[torch.device]:
    """One device per process: a GPU each, or the CPU for all.

    Raises
    ------
    BadInputError
        If there are fewer GPUs than processes.
    """
    if device.type != "cuda":
        return [device] * processes
    if processes > torch.cuda.device_count():
        raise BadInputError(
            "config key 'features.processes'",
            found=f"{processes}, but {torch.cuda.device_count()} GPU(s) are visible here",
            expected="a GPU for each process",
            remedy="Ask for fewer processes, or for more GPUs of one node.",
        )
    return [torch.device("cuda", rank) for rank in range(processes)]


def run_shares(do: Callable[[Share], None], shares: Sequence[Share]) -> None:
    """Do each share in a process of its own; the first error ends it when all have come to their end."""
    # A fork of a process whose libraries have threads or a GPU can hang.
    with ProcessPoolExecutor(len(shares), multiprocessing.get_context("spawn")) as pool:
        for outcome in [pool.submit(do, share) for share in shares]:
            outcome.result()
