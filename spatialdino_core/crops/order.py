"""In which order crops are read: arithmetic on the index alone, nothing is read here.

Shards are read from their beginning to their end, so that disks read ahead. One order for all: processes
and workers that share it take turns, so that a position in it is a number, whatever their number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHUFFLE_WINDOW = 1000
_SHARDS, _CROPS = 1, 2


def epoch_order(
    shard_lengths: Sequence[int], *, seed: int, epoch: int, window: int = SHUFFLE_WINDOW
) -> NDArray[np.intp]:
    """Numbers of the crops of one epoch, in order.

    Parameters
    ----------
    shard_lengths
        Crops of each shard; crops are numbered through in the order of the shards.
    seed, epoch
        What the order depends on.
    window
        A crop comes less than this many places before or after its turn in its shard, so that a batch
        is not made of neighbours; 1 is strictly sequential. A window that holds all crops shuffles
        them evenly.

    Returns
    -------
    numpy.ndarray
        Each crop once.

    Examples
    --------
    Strictly sequential within shards, which come in random order.

    >>> epoch_order([3, 2, 2], seed=0, epoch=0, window=1).tolist()
    [5, 6, 0, 1, 2, 3, 4]
    """
    shards = np.random.default_rng([seed, _SHARDS, epoch]).permutation(len(shard_lengths))
    starts = np.concatenate([[0], np.cumsum(shard_lengths)])
    read = [np.arange(starts[shard], starts[shard + 1]) for shard in shards]
    numbers = np.concatenate([np.empty(0, np.intp), *read]).astype(np.intp)
    generator = np.random.default_rng([seed, _CROPS, epoch])
    if window >= len(numbers):
        return generator.permutation(numbers)
    turns = np.arange(len(numbers)) + generator.uniform(0, window, len(numbers))
    return numbers[np.argsort(turns, kind="stable")]
