"""In which order crops are read: arithmetic on the index alone, nothing is read here.

A shard belongs to one worker of one rank and is read from its beginning to its end, so that disks read
ahead; the order is a function of seed, epoch, rank and worker, so that a position in it is a number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHUFFLE_WINDOW = 1000
_SHARDS, _CROPS = 1, 2


def worker_order(
    shard_lengths: Sequence[int],
    *,
    seed: int,
    epoch: int,
    rank: int = 0,
    ranks: int = 1,
    worker: int = 0,
    workers: int = 1,
    window: int = SHUFFLE_WINDOW,
) -> NDArray[np.intp]:
    """Numbers of the crops that one worker reads in one epoch, in order.

    Parameters
    ----------
    shard_lengths
        Crops of each shard; crops are numbered through in the order of the shards.
    seed, epoch
        What the order of the shards, and who reads which, depends on.
    rank, ranks
        This process of the training and how many there are.
    worker, workers
        This reader of the process and how many there are.
    window
        A crop comes less than this many places before or after its turn in its shard, so that a batch
        is not made of neighbours; 1 is strictly sequential. A window that holds all crops of the
        worker shuffles them evenly.

    Returns
    -------
    numpy.ndarray
        Over all workers of all ranks, each crop once.
    """
    shards = np.random.default_rng([seed, _SHARDS, epoch]).permutation(len(shard_lengths))
    starts = np.concatenate([[0], np.cumsum(shard_lengths)])
    owner = rank * workers + worker
    own = [np.arange(starts[shard], starts[shard + 1]) for shard in shards[owner :: ranks * workers]]
    numbers = np.concatenate([np.empty(0, np.intp), *own]).astype(np.intp)
    generator = np.random.default_rng([seed, _CROPS, epoch, owner])
    if window >= len(numbers):
        return generator.permutation(numbers)
    turns = np.arange(len(numbers)) + generator.uniform(0, window, len(numbers))
    return numbers[np.argsort(turns, kind="stable")]


def rank_order(
    shard_lengths: Sequence[int],
    *,
    seed: int,
    epoch: int,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 1,
    window: int = SHUFFLE_WINDOW,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Crops of one rank in one epoch: its workers take turns, the one that has finished is passed over.

    Returns
    -------
    numbers : numpy.ndarray
        Crops, in the order in which they arrive.
    readers : numpy.ndarray
        Which worker reads each of them.
    """
    orders = [
        worker_order(
            shard_lengths,
            seed=seed,
            epoch=epoch,
            rank=rank,
            ranks=ranks,
            worker=worker,
            workers=workers,
            window=window,
        )
        for worker in range(workers)
    ]
    readers = np.concatenate([np.full(len(order), worker) for worker, order in enumerate(orders)])
    rounds = np.concatenate([np.arange(len(order)) for order in orders])
    turns = np.lexsort((readers, rounds))
    return np.concatenate(orders)[turns], readers[turns]
