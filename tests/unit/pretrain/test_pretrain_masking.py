"""Masks: exact counts, blocks rather than salt and pepper, ratios spread over their range."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialdino_core.pretrain.masking import block_mask, masked_counts, masked_views, patch_means

sides = st.integers(1, 6)


@settings(max_examples=60, deadline=None)
@given(grid=st.tuples(sides, sides, sides), share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_count_is_exact(grid, share, seed):
    masked = round(share * np.prod(grid))
    mask = block_mask(grid, masked, np.random.default_rng(seed))
    assert mask.shape == grid
    assert mask.sum() == masked


def touching_pairs(mask):
    turned = [np.moveaxis(mask, axis, 0) for axis in range(3)]
    return sum((planes[1:] & planes[:-1]).sum() for planes in turned)


def test_masks_are_blocks():
    rng = np.random.default_rng(0)
    blocks = [block_mask((8, 8, 8), 128, rng) for _ in range(40)]
    scattered = [rng.permutation(mask.ravel()).reshape(8, 8, 8) for mask in blocks]
    assert np.mean([touching_pairs(m) for m in blocks]) > 2 * np.mean([touching_pairs(m) for m in scattered])


def test_every_patch_is_masked_about_equally_often():
    rng = np.random.default_rng(1)
    often = np.mean([block_mask((4, 4, 4), 16, rng) for _ in range(800)], axis=0)
    assert abs(often.mean() - 0.25) < 1e-9
    assert often.min() > 0.18
    assert often.max() < 0.32


def test_views_are_stratified():
    counts = np.sort(masked_counts(20, 64, 0.5, (0.15, 0.5), np.random.default_rng(0)))
    assert len(counts) == 20
    assert (counts[:10] == 0).all()
    edges = np.linspace(0.15, 0.5, 11) * 64
    assert ((counts[10:] >= edges[:-1] - 0.5) & (counts[10:] <= edges[1:] + 0.5)).all()
    assert masked_views(20, 0.5) == 10


def test_at_least_one_view_and_one_patch_are_masked():
    assert masked_counts(2, 1, 0.1, (0.1, 0.5), np.random.default_rng(0)).sum() == 1


@settings(max_examples=40, deadline=None)
@given(grid=st.tuples(sides, sides, sides), share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_count_is_exact_with_a_foreground_bias(grid, share, seed):
    generator = np.random.default_rng(seed)
    masked = round(share * np.prod(grid))
    assert block_mask(grid, masked, generator, generator.random(grid), 1.0).sum() == masked


def test_biased_masks_prefer_the_foreground_and_plain_ones_do_not():
    generator = np.random.default_rng(0)
    brightness = np.zeros((7, 7, 7))
    brightness[1:3, 4:6, 2:4] = 1
    brightness[5, 1, 1:4] = 2
    bright = brightness > 0

    def share(bias):
        masks = [block_mask((7, 7, 7), 51, generator, brightness, bias) for _ in range(300)]
        return np.mean([mask[bright].mean() for mask in masks])

    plain = 51 / 343
    assert abs(share(0.0) - plain) < 0.03
    assert share(0.5) > 1.2 * plain
    assert share(1.0) > share(0.5) > share(0.0)


def test_brightness_of_patches_is_their_mean():
    view = np.random.default_rng(0).random((2, 8, 12, 4))
    means = patch_means(view, 4)
    assert means.shape == (2, 3, 1)
    assert np.isclose(means[1, 2, 0], view[:, 4:8, 8:12, 0:4].mean())
