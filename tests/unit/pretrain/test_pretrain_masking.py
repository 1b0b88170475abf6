"""Masks: exact counts, blocks rather than salt and pepper, ratios spread over their range."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialdino_core.pretrain.masking import block_mask, view_masks

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
    masks = view_masks(20, (4, 4, 4), 0.5, (0.1, 0.5), np.random.default_rng(0))
    counts = np.sort(masks.sum(1))
    assert masks.shape == (20, 64)
    assert (counts[:10] == 0).all()
    edges = np.linspace(0.1, 0.5, 11) * 64
    assert ((counts[10:] >= edges[:-1] - 0.5) & (counts[10:] <= edges[1:] + 0.5)).all()


def test_at_least_one_view_and_one_patch_are_masked():
    masks = view_masks(2, (1, 1, 1), 0.1, (0.1, 0.5), np.random.default_rng(0))
    assert masks.sum() == 1
