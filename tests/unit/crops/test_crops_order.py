"""The reading order: complete, without duplicates, in sequence, and resumed exactly, with real loaders."""

import itertools

import numpy as np
import pytest
from torch.utils.data import DataLoader

from spatialdino_core.crops.order import rank_order, worker_order
from spatialdino_core.crops.shards import Crop, CropShards, write_shards
from spatialdino_core.crops.stream import CropStream

LENGTHS = [3, 5, 1, 4, 4, 2, 6]
SHARD_OF = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
CONFIGURATIONS = list(itertools.product((1, 2, 3), (0, 1, 2, 3)))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Crops of one voxel that says which number they have, in shards of different lengths."""
    folder = tmp_path_factory.mktemp("shards")
    numbers = iter(range(sum(LENGTHS)))
    indices = []
    for shard, length in enumerate(LENGTHS):
        crops = [Crop(f"c-{n}", np.full((1, 1, 1, 1), n), {}) for n in itertools.islice(numbers, length)]
        write_shards(folder / str(shard), lambda start, crops=crops: crops[start:], shard_bytes=1e6, about={})
        indices.append(folder / str(shard) / "index.json")
    found = CropShards(indices)
    assert found.shard_lengths == LENGTHS
    return found


def read(shards, workers, **settings):
    """Numbers of crops in the order in which a loader delivers them."""
    loader = DataLoader(CropStream(shards, **settings), batch_size=None, num_workers=workers)
    received = []
    for number, crop in loader:
        assert crop.shape == (1, 1, 1, 1)
        assert int(crop) == number
        received.append(number)
    return received


@pytest.mark.parametrize("window", [1, 4, 100])
@pytest.mark.parametrize(("ranks", "workers"), CONFIGURATIONS)
def test_an_epoch_covers_every_crop_once(ranks, workers, window):
    orders = [
        rank_order(LENGTHS, seed=1, epoch=2, rank=rank, ranks=ranks, workers=max(workers, 1), window=window)[
            0
        ]
        for rank in range(ranks)
    ]
    assert sorted(np.concatenate(orders).tolist()) == list(range(sum(LENGTHS)))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("ranks", "workers"), CONFIGURATIONS)
def test_loaders_deliver_the_order_and_resume_it_anywhere(shards, ranks, workers):
    received = []
    for rank in range(ranks):
        settings = dict(seed=3, epoch=1, rank=rank, ranks=ranks, window=3)
        whole = read(shards, workers, **settings)
        received += whole
        planned, _ = rank_order(LENGTHS, workers=max(workers, 1), **settings)
        assert whole == planned.tolist()
        for position in (1, len(whole) // 2):
            assert read(shards, workers, **settings, position=position) == whole[position:]
    assert sorted(received) == list(range(sum(LENGTHS)))


@pytest.mark.parametrize(("ranks", "workers"), CONFIGURATIONS)
def test_a_resumed_order_is_the_rest_of_the_order(shards, ranks, workers):
    """At every position; the loader is asked by turns, as the test above sees it do."""
    readers = max(workers, 1)
    for rank in range(ranks):
        settings = dict(seed=3, epoch=1, rank=rank, ranks=ranks)
        whole, _ = rank_order(LENGTHS, workers=readers, **settings)
        for position in range(len(whole) + 1):
            stream = CropStream(shards, **settings, position=position)
            parts = [stream.remaining(readers, worker).tolist() for worker in range(readers)]
            turns = itertools.chain(*itertools.zip_longest(*parts))
            assert [n for n in turns if n is not None] == whole[position:].tolist()


def test_shards_belong_to_one_worker_and_are_read_in_sequence():
    owners = {}
    for rank, worker in itertools.product(range(2), range(3)):
        order = worker_order(LENGTHS, seed=0, epoch=0, rank=rank, ranks=2, worker=worker, workers=3, window=1)
        visits = [shard for shard, _ in itertools.groupby(SHARD_OF[order])]
        assert len(visits) == len(set(visits)), "a shard is finished before the next is begun"
        assert (np.diff(order)[np.diff(SHARD_OF[order]) == 0] == 1).all()
        for shard in visits:
            assert owners.setdefault(shard, (rank, worker)) == (rank, worker)
    assert len(owners) == len(LENGTHS)


def test_the_order_is_a_function_of_its_arguments():
    one = dict(seed=5, epoch=4, rank=1, ranks=2, worker=1, workers=2, window=3)
    many = [10] * 40
    assert np.array_equal(worker_order(many, **one), worker_order(many, **one))
    for change in (dict(seed=6), dict(epoch=5), dict(rank=0), dict(worker=0)):
        assert not np.array_equal(worker_order(many, **one), worker_order(many, **(one | change)))


def test_a_window_moves_crops_by_less_than_itself_and_evenly():
    lengths = [4000]
    order = worker_order(lengths, seed=0, epoch=0, window=50)
    moved = np.empty(4000, int)
    moved[order] = np.arange(4000)
    assert np.abs(moved - np.arange(4000)).max() < 50
    assert (np.diff(order) != 1).mean() > 0.9
    full = [worker_order([100], seed=0, epoch=epoch, window=1000)[0] for epoch in range(3000)]
    counts = np.bincount(full, minlength=100)
    assert ((counts - 30) ** 2 / 30).sum() < 150, "any crop may come first (chi-squared, 99 degrees)"


def test_more_readers_than_shards():
    orders = [
        worker_order([3, 3], seed=0, epoch=0, rank=rank, ranks=3, worker=worker, workers=3)
        for rank, worker in itertools.product(range(3), range(3))
    ]
    assert sorted(map(len, orders)) == [0] * 7 + [3] * 2
    assert sorted(np.concatenate(orders).tolist()) == list(range(6))
