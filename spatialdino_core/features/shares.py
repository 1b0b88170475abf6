"""Several processes share the frames of a movie: who owns which, and one ledger in the end.

A process owns every n-th frame and no other. It keeps a ledger of its own, because appending to one file from
several processes is not safe on network file systems; `collected` brings them together, also after a kill.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.ledger import FrameLedger

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


def share_ledger(path: Path, rank: int) -> FrameLedger:
    """What a process writes: a file of its own, beside all that the common ledger at ``path`` knows."""
    ledger = FrameLedger(path.with_name(f"{path.stem}-{rank}{path.suffix}"))
    ledger.entries = FrameLedger(path).entries | ledger.entries
    return ledger


def collected(path: Path) -> FrameLedger:
    """The common ledger at ``path``, with what processes have written and no ledger but itself left."""
    ledger = FrameLedger(path)
    for part in sorted(path.parent.glob(f"{path.stem}-*{path.suffix}")):
        for frame, entry in FrameLedger(part).entries.items():
            if ledger.entries.get(frame) != entry:
                ledger.add(entry)
        part.unlink()
    return ledger


def run_shares(do: Callable[[Share], None], shares: Sequence[Share]) -> None:
    """Do each share in a process of its own; the first error ends it when all have come to their end."""
    # A fork of a process whose libraries have threads or a GPU can hang.
    with ProcessPoolExecutor(len(shares), multiprocessing.get_context("spawn")) as pool:
        for outcome in [pool.submit(do, share) for share in shares]:
            outcome.result()
