"""Batches: which crops, in which order, and that all randomness follows from a counter."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from small import GENTLE, small_recipe

from spatialdino_core.crops.parameters import AugmentationParameters
from spatialdino_core.crops.source import check_source
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.errors import BadInputError
from spatialdino_core.pretrain import batches as batches_module
from spatialdino_core.pretrain.batches import crop_order, make_batch, step_batches
from spatialdino_core.pretrain.distributed import World
from spatialdino_core.pretrain.loader import batches_ahead

RECIPE = small_recipe(steps=4, batch_size=3, global_crop_voxels=8, local_crop_voxels=4, local_crops=2)


ARCHITECTURE = EncoderParameters(
    embed_dim=8, depth=2, heads=2, patch_voxels=4, layer_scale=1.0, drop_path=0.0
)
CPU = torch.device("cpu")


def made(source, recipe, architecture=ARCHITECTURE, **where):
    return make_batch(source, recipe, architecture, **where).changed()


def crops(count=5, side=10):
    return [np.random.default_rng(i).random((1, side, side, side), dtype=np.float32) for i in range(count)]


def test_batch_has_the_promised_shapes_and_depends_on_seed_and_step_alone():
    source = crops()
    batch = made(source, RECIPE, seed=1, step=2)
    assert batch.global_views.voxels.shape == (6, 1, 8, 8, 8)
    assert batch.local_views.voxels.shape == (6, 1, 4, 4, 4)
    assert batch.masks.shape == (6, 8)
    assert batch.masks.any(1).sum() == 3
    again = made(source, RECIPE, seed=1, step=2)
    assert torch.equal(batch.global_views.voxels, again.global_views.voxels)
    assert torch.equal(batch.local_views.voxels, again.local_views.voxels)
    assert torch.equal(batch.masks, again.masks)
    for other in (dict(seed=1, step=3), dict(seed=2, step=2)):
        assert not torch.equal(batch.global_views.voxels, made(source, RECIPE, **other).global_views.voxels)
    assert not torch.equal(batch.global_views.voxels[:3], batch.global_views.voxels[3:])


def test_views_and_masks_of_the_same_crops_change_from_step_to_step():
    first, second = (made(crops(1), RECIPE, seed=0, step=step) for step in (0, 1))
    assert not torch.equal(first.global_views.voxels, second.global_views.voxels)
    assert not torch.equal(first.local_views.voxels, second.local_views.voxels)
    assert not torch.equal(first.masks, second.masks)
    assert not torch.equal(first.global_views.voxels[0], first.global_views.voxels[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_ahead_are_those_of_their_steps(workers):
    source = crops()
    build = partial(step_batches, source, RECIPE, ARCHITECTURE, seed=0, world=World())
    ahead = batches_ahead(build, range(1, 4), workers=workers, device=CPU)
    for step, (batch,) in enumerate(ahead, start=1):
        expected = made(source, RECIPE, seed=0, step=step)
        assert torch.equal(batch.global_views.voxels, expected.global_views.voxels)
        assert torch.equal(batch.local_views.voxels, expected.local_views.voxels)
        assert torch.equal(batch.masks, expected.masks)
    assert step == 3
    assert list(batches_ahead(build, range(4, 4), workers=workers, device=CPU)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_crop_is_named_by_every_loader(workers):
    source = [*crops(2), np.zeros((1, 10, 7, 10), np.float32)]
    build = partial(step_batches, source, RECIPE, ARCHITECTURE, seed=0, world=World())
    with pytest.raises(BadInputError, match="every side >= 8"):
        list(batches_ahead(build, range(3), workers=workers, device=CPU))


@pytest.mark.parametrize(("ranks", "accumulation"), [(1, 2), (2, 1), (3, 2)])
def test_processes_and_micro_batches_share_the_batch_of_the_step(ranks, accumulation):
    """Crops, views, masks and dropped branches of each crop are the same, whoever has it."""
    recipe = replace(RECIPE, batch_size=12, accumulation=accumulation)
    architecture = replace(ARCHITECTURE, drop_path=0.5)
    whole = made(crops(), recipe, architecture, seed=3, step=5)
    parts = [
        batch.changed()
        for rank in range(ranks)
        for batch in step_batches(crops(), recipe, architecture, 5, seed=3, world=World(rank, ranks))
    ]
    assert [index for part in parts for index in part.crops] == whole.crops

    def joined(name, views):
        pieces = [getattr(part, name) for part in parts]
        voxels = [piece.voxels.unflatten(0, (views, -1)) for piece in pieces]
        factors = [piece.branch_factors.unflatten(2, (views, -1)) for piece in pieces]
        return torch.cat(voxels, 1).flatten(0, 1), torch.cat(factors, 3).flatten(2, 3)

    for name, views in (("global_views", 2), ("local_views", 2)):
        voxels, factors = joined(name, views)
        assert torch.equal(voxels, getattr(whole, name).voxels)
        assert torch.equal(factors, getattr(whole, name).branch_factors)
    masks = torch.cat([part.masks.unflatten(0, (2, -1)) for part in parts], 1).flatten(0, 1)
    assert torch.equal(masks, whole.masks)
    assert sum(part.masked_views for part in parts) == whole.masked_views == (whole.masks.any(1)).sum()


def test_augmentation_changes_the_input():
    batch = make_batch(crops(), RECIPE, ARCHITECTURE, seed=0, step=0)
    for views in (batch.global_views, batch.local_views):
        difference = (views.changed().voxels - views.voxels).abs().flatten(1).mean(1)
        assert (difference > 0).all()
        assert difference.mean() > 0.01


def test_no_local_views():
    recipe = small_recipe(batch_size=3, global_crop_voxels=8, local_crop_voxels=4, local_crops=0)
    assert len(made(crops(), recipe, seed=0, step=0).local_views) == 0


def test_each_epoch_visits_every_crop_once():
    steps = [crop_order([4, 3], 3, seed=0, step=step) for step in range(14)]
    visited = list(itertools.chain(*steps))
    epochs = [visited[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert len(crop_order([2], 5, seed=0, step=1)) == 5


def test_crops_of_many_shards_are_read_shard_by_shard():
    lengths = [3000] * 4
    epoch = [crop_order(lengths, 1000, seed=0, step=step) for step in range(12)]
    spans = [len({index // 3000 for index in batch}) for batch in epoch]
    assert max(spans) <= 2
    assert sorted(itertools.chain(*epoch)) == list(range(12000))


class Recorded(list):
    """A source of crops that says how many there are in each of two files."""

    shard_lengths = (2, 3)


def test_the_order_follows_the_files_of_the_source(monkeypatch):
    asked = []
    monkeypatch.setattr(
        batches_module, "crop_order", lambda lengths, *args, **kwargs: asked.append(lengths) or [0, 1, 2]
    )
    made(Recorded(crops()), RECIPE, seed=0, step=0)
    made(crops(), RECIPE, seed=0, step=0)
    assert asked == [[2, 3], [5]]


def plain(recipe=RECIPE, **changes):
    """A recipe without changes of intensity, but those that are given."""
    unchanged = GENTLE | {"gamma_min": 1.0, "gamma_max": 1.0, "noise_max": 0.0}
    return replace(recipe, augmentation=AugmentationParameters(**(unchanged | changes)))


def test_local_views_may_lie_inside_the_global_ones():
    """Each voxel's intensity names its place."""
    crop = np.arange(40**3, dtype=np.float32).reshape(1, 40, 40, 40) / 40**3
    views = replace(RECIPE, local_crops=6, batch_size=2)

    def places(view):
        return set((view.double() * 40**3).round().flatten().tolist())

    def local_outside(step, recipe):
        batch = made([crop], recipe, seed=0, step=step)
        big = batch.global_views.voxels.unflatten(0, (2, 2))
        small = batch.local_views.voxels.unflatten(0, (6, 2))
        outside = 0
        for item in range(2):
            shown = [places(view) for view in big[:, item]]
            inside = [places(view) for view in small[:, item]]
            outside += sum(not any(view <= around for around in shown) for view in inside)
        return outside

    assert sum(local_outside(step, plain(views)) for step in range(3)) > 30
    assert sum(local_outside(step, plain(views, local_inside_global=True)) for step in range(3)) == 0


def test_noise_on_global_views_only():
    flat = [np.full((1, 10, 10, 10), 0.5, np.float32)]
    noisy = made(flat, plain(noise_max=0.1, noise_views="all"), seed=0, step=0)
    assert noisy.global_views.voxels.std() > 0.01
    assert noisy.local_views.voxels.std() > 0.01
    batch = made(flat, plain(noise_max=0.1, noise_views="global"), seed=0, step=0)
    assert batch.global_views.voxels.std() > 0.01
    assert batch.local_views.voxels.std() == 0


def test_views_of_a_crop_of_several_channels_show_one_each():
    channels = np.stack([np.full((10, 10, 10), level, np.float32) for level in (0.2, 0.6, 0.9)])
    recipe = plain()
    levels = [made([channels], recipe, seed=0, step=step).global_views.voxels for step in range(6)]
    shown = torch.stack(levels).flatten(2).unique(dim=2).flatten()
    assert {round(float(level), 3) for level in shown} == {0.2, 0.6, 0.9}
    batch = made([channels], recipe, replace(ARCHITECTURE, channels=3), seed=0, step=0)
    assert batch.global_views.voxels.shape[1] == 3


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (np.zeros((1, 10, 7, 10), np.float32), "every side >= 8"),
        (np.zeros((10, 10, 10), np.float32), r"float32 \(1, Z, Y, X\)"),
        (np.zeros((1, 10, 10, 10)), "float64"),
        (np.full((1, 10, 10, 10), np.nan, np.float32), r"NaN|nan"),
    ],
)
def test_bad_crop_is_named(crop, message):
    source = [*crops(2), crop]  # a batch of three reads every crop once
    build = partial(step_batches, source, RECIPE, ARCHITECTURE, seed=0, world=World())
    with pytest.raises(BadInputError, match=message) as raised:
        list(batches_ahead(build, range(1), workers=0, device=CPU))
    assert "2" in raised.value.where
    with pytest.raises(BadInputError, match=message):
        check_source(source, 1, 8)


def test_an_encoder_of_two_channels_wants_two():
    with pytest.raises(BadInputError, match=r"float32 \(2, Z, Y, X\)"):
        made(crops(), RECIPE, replace(ARCHITECTURE, channels=2), seed=0, step=0)
