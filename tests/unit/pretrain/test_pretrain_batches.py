"""Views and batches: geometry voxel by voxel, intensity by its formula, randomness by counter."""

import itertools

import numpy as np
import pytest
import torch

from spatialdino_core.errors import BadInputError
from spatialdino_core.pretrain.augment import change_intensity, random_view
from spatialdino_core.pretrain.batches import batches, crop_order, make_batch
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.source import check_source

RECIPE = PretrainParameters(steps=4, batch_size=3, global_crop_voxels=8, local_crop_voxels=4, local_crops=2)


def crops(count=5, side=10):
    return [np.random.default_rng(i).random((1, side, side, side), dtype=np.float32) for i in range(count)]


def symmetries(cube):
    """All 48 orientations of a (C, n, n, n) cube."""
    return [
        np.flip(cube.transpose(0, *order), [axis + 1 for axis in range(3) if flips[axis]])
        for order in itertools.permutations((1, 2, 3))
        for flips in itertools.product((0, 1), repeat=3)
    ]


def test_views_are_all_orientations_of_all_places():
    crop = np.arange(27, dtype=np.float32).reshape(1, 3, 3, 3)
    expected = {
        turned.tobytes()
        for z, y, x in itertools.product(range(2), repeat=3)
        for turned in symmetries(crop[:, z : z + 2, y : y + 2, x : x + 2])
    }
    assert len(expected) == 8 * 48
    rng = np.random.default_rng(0)
    seen = {random_view(crop, 2, rng).tobytes() for _ in range(6000)}
    assert seen == expected


def test_views_copy_nothing(tmp_path):
    np.save(tmp_path / "crop.npy", crops(1)[0])
    mapped = np.load(tmp_path / "crop.npy", mmap_mode="r")
    assert np.shares_memory(random_view(mapped, 4, np.random.default_rng(0)), mapped)


def test_intensity_follows_its_formula():
    views = torch.rand(2, 1, 4, 4, 4, dtype=torch.float64)
    noise = torch.randn(2, 1, 4, 4, 4, dtype=torch.float64)
    changes = torch.tensor([[1.0, 1.0, 0.0], [2.0, 0.5, 0.1]], dtype=torch.float64)
    squared = views[1] ** 2
    truth = torch.stack([views[0], 0.5 * (squared - squared.mean()) + squared.mean() + 0.1 * noise[1]])
    torch.testing.assert_close(change_intensity(views, changes, noise.clone()), truth)


def test_batch_has_the_promised_shapes_and_depends_on_seed_and_step_alone():
    source = crops()
    batch = make_batch(source, RECIPE, 4, 1, seed=1, step=2)
    assert batch.global_views.shape == (6, 1, 8, 8, 8)
    assert batch.local_views.shape == (6, 1, 4, 4, 4)
    assert batch.masks.shape == (6, 8)
    assert batch.masks.any(1).sum() == 3
    again = make_batch(source, RECIPE, 4, 1, seed=1, step=2)
    assert torch.equal(batch.global_views, again.global_views)
    assert torch.equal(batch.local_views, again.local_views)
    assert torch.equal(batch.masks, again.masks)
    for other in (dict(seed=1, step=3), dict(seed=2, step=2)):
        assert not torch.equal(batch.global_views, make_batch(source, RECIPE, 4, 1, **other).global_views)
    assert not torch.equal(batch.global_views[:3], batch.global_views[3:])


def test_views_and_masks_of_the_same_crops_change_from_step_to_step():
    first, second = (make_batch(crops(1), RECIPE, 4, 1, seed=0, step=step) for step in (0, 1))
    assert not torch.equal(first.global_views, second.global_views)
    assert not torch.equal(first.local_views, second.local_views)
    assert not torch.equal(first.masks, second.masks)
    assert not torch.equal(first.global_views[0], first.global_views[1])


def test_prefetched_batches_are_the_batches_of_their_steps():
    source = crops()
    for step, batch in enumerate(batches(source, RECIPE, 4, 1, seed=0, start=1), start=1):
        assert torch.equal(
            batch.global_views, make_batch(source, RECIPE, 4, 1, seed=0, step=step).global_views
        )
    assert step == 3
    assert list(batches(source, RECIPE, 4, 1, seed=0, start=4)) == []


def test_no_local_views():
    recipe = PretrainParameters(batch_size=3, global_crop_voxels=8, local_crop_voxels=4, local_crops=0)
    assert len(make_batch(crops(), recipe, 4, 1, seed=0, step=0).local_views) == 0


def test_each_epoch_visits_every_crop_once():
    steps = [crop_order(7, 3, seed=0, step=step) for step in range(14)]
    visited = list(itertools.chain(*steps))
    epochs = [visited[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert len(crop_order(2, 5, seed=0, step=1)) == 5


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (np.zeros((1, 10, 7, 10), np.float32), "every side >= 8"),
        (np.zeros((2, 10, 10, 10), np.float32), r"float32 \(1, Z, Y, X\)"),
        (np.zeros((1, 10, 10, 10)), "float64"),
        (np.full((1, 10, 10, 10), np.nan, np.float32), r"NaN|nan"),
    ],
)
def test_bad_crop_is_named(crop, message):
    source = [*crops(2), crop]  # a batch of three reads every crop once
    with pytest.raises(BadInputError, match=message) as raised:
        make_batch(source, RECIPE, 4, 1, seed=0, step=0)
    assert "2" in raised.value.where
    with pytest.raises(BadInputError, match=message):
        check_source(source, 1, 8)


def test_raw_camera_counts_and_empty_sources_are_refused():
    check_source(crops(), 1, 8)
    with pytest.raises(BadInputError, match="normalised"):
        check_source([crop * 1000 for crop in crops()], 1, 8)
    with pytest.raises(BadInputError, match="at least one crop"):
        check_source([], 1, 8)
