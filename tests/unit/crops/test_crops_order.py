"""The reading order: complete, without duplicates, and in sequence."""

import itertools

import numpy as np
import pytest

from spatialdino_core.crops.order import epoch_order

LENGTHS = [3, 5, 1, 4, 4, 2, 6]
SHARD_OF = np.repeat(np.arange(len(LENGTHS)), LENGTHS)


@pytest.mark.parametrize("window", [1, 4, 100])
def test_an_epoch_covers_every_crop_once(window):
    order = epoch_order(LENGTHS, seed=1, epoch=2, window=window)
    assert sorted(order.tolist()) == list(range(sum(LENGTHS)))


def test_shards_are_read_in_sequence():
    order = epoch_order(LENGTHS, seed=0, epoch=0, window=1)
    visits = [shard for shard, _ in itertools.groupby(SHARD_OF[order])]
    assert len(visits) == len(LENGTHS), "a shard is finished before the next is begun"
    assert visits != sorted(visits)
    assert (np.diff(order)[np.diff(SHARD_OF[order]) == 0] == 1).all()


def test_the_order_is_a_function_of_its_arguments():
    one = dict(seed=5, epoch=4, window=3)
    many = [10] * 40
    assert np.array_equal(epoch_order(many, **one), epoch_order(many, **one))
    for change in (dict(seed=6), dict(epoch=5)):
        assert not np.array_equal(epoch_order(many, **one), epoch_order(many, **(one | change)))


def test_a_window_moves_crops_by_less_than_itself_and_evenly():
    lengths = [4000]
    order = epoch_order(lengths, seed=0, epoch=0, window=50)
    moved = np.empty(4000, int)
    moved[order] = np.arange(4000)
    assert np.abs(moved - np.arange(4000)).max() < 50
    assert (np.diff(order) != 1).mean() > 0.9
    full = [epoch_order([100], seed=0, epoch=epoch, window=1000)[0] for epoch in range(3000)]
    counts = np.bincount(full, minlength=100)
    assert ((counts - 30) ** 2 / 30).sum() < 150, "any crop may come first (chi-squared, 99 degrees)"
