"""Crops for a torch ``DataLoader`` of any number of workers and ranks, from any position on.

Where reading is slower than learning, several workers read shards of their own; otherwise `CropShards`
and the order of one worker are all that is needed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from spatialdino_core.crops.order import SHUFFLE_WINDOW, rank_order
from spatialdino_core.crops.shards import CropShards


class CropStream(IterableDataset[tuple[int, torch.Tensor]]):
    """One rank's crops of one epoch.

    Parameters
    ----------
    shards
        Where they are read.
    seed, epoch, rank, ranks, window
        See `worker_order`.
    position
        Crops of this epoch that the rank has already had: to resume, the number received so far, with
        the same number of workers.

    Notes
    -----
    For ``DataLoader(stream, batch_size=None, num_workers=…)``, which asks its workers in turns. Yields
    the number of a crop and its voxels (c, z, y, x), float32.
    """

    def __init__(
        self,
        shards: CropShards,
        *,
        seed: int,
        epoch: int,
        rank: int = 0,
        ranks: int = 1,
        position: int = 0,
        window: int = SHUFFLE_WINDOW,
    ) -> None:
        self.shards, self.seed, self.epoch = shards, seed, epoch
        self.rank, self.ranks, self.position, self.window = rank, ranks, position, window

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        info = get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        for number in self.remaining(workers, worker):
            yield int(number), torch.from_numpy(self.shards[int(number)])

    def remaining(self, workers: int, worker: int) -> NDArray[np.intp]:
        """Numbers of the crops that are left to one worker.

        After a resume the loader begins with worker 0, so that the one whose turn it is gets that name.
        """
        numbers, readers = rank_order(
            self.shards.shard_lengths,
            seed=self.seed,
            epoch=self.epoch,
            rank=self.rank,
            ranks=self.ranks,
            workers=workers,
            window=self.window,
        )
        numbers, readers = numbers[self.position :], readers[self.position :]
        _, first = np.unique(readers, return_index=True)
        names = readers[np.sort(first)]
        return numbers[readers == names[worker]] if worker < len(names) else numbers[:0]
