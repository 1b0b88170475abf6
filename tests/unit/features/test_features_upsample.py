"""From patches to voxels: linear interpolation of linear maps, and edges where the guide has them."""

from __future__ import annotations

import numpy as np
import pytest

from spatialdino_core.features.grid import VoxelMap, on_voxels, patch_means, patch_origin_um, patch_spacing_um
from spatialdino_core.features.upsample import guided_on_voxels

VOXEL_UM = (0.1, 0.1, 0.1)
SPACING_UM, ORIGIN_UM = patch_spacing_um(VOXEL_UM, 8), patch_origin_um(VOXEL_UM, 8)
EVERYWHERE = np.ones((32, 24, 40), bool)


def test_a_linear_map_is_reproduced_at_voxel_centres() -> None:
    """A field linear in µm, sampled at patch centres, is the same field at voxel centres."""
    spacing, origin = patch_spacing_um((0.1, 0.1, 0.1), 8), patch_origin_um((0.1, 0.1, 0.1), 8)
    assert origin == pytest.approx((0.35, 0.35, 0.35))
    grid = np.meshgrid(*[np.arange(n) * 0.8 + 0.35 for n in (4, 5, 6)], indexing="ij")
    found = on_voxels(grid[0] + 2 * grid[1] - grid[2], spacing, origin, (12, 30, 40), (0.2, 0.1, 0.1))
    fine = np.meshgrid(
        *[np.arange(n) * v for n, v in zip((12, 30, 40), (0.2, 0.1, 0.1), strict=True)], indexing="ij"
    )
    expected = fine[0] + 2 * fine[1] - fine[2]
    inner = (slice(2, 12), slice(4, 30), slice(4, 40))
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-5)


def guided(coarse: np.ndarray, guide: np.ndarray, means: np.ndarray | None = None) -> np.ndarray:
    if means is None:
        means = patch_means(guide, EVERYWHERE, VOXEL_UM, SPACING_UM, ORIGIN_UM, (4, 3, 5))
    return guided_on_voxels(coarse, SPACING_UM, ORIGIN_UM, guide, means, VOXEL_UM, guide_range=0.1)


def test_means_are_those_of_the_patches() -> None:
    image = np.random.default_rng(0).random(EVERYWHERE.shape)
    found = patch_means(image, EVERYWHERE, VOXEL_UM, SPACING_UM, ORIGIN_UM, (4, 3, 5))
    np.testing.assert_allclose(found, image.reshape(4, 8, 3, 8, 5, 8).mean((1, 3, 5)))
    half = EVERYWHERE.copy()
    half[:8] = False
    found = patch_means(image, half, VOXEL_UM, SPACING_UM, ORIGIN_UM, (4, 3, 5))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:]).all()


def test_a_flat_guide_is_linear_interpolation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spatialdino_core.features.upsample.SLAB_VOXELS", 5000)  # several slabs
    coarse = np.random.default_rng(0).random((2, 4, 3, 5))
    found = guided(coarse, np.full(EVERYWHERE.shape, 0.3, np.float32))
    for one, map_ in zip(found, coarse, strict=True):
        expected = on_voxels(map_, SPACING_UM, ORIGIN_UM, (32, 24, 40), VOXEL_UM)
        np.testing.assert_allclose(one, expected, atol=1e-5)


def test_an_edge_of_the_guide_is_kept() -> None:
    """A step in the image, three voxels into a patch; the map is 1 on its bright side, mixed in between."""
    guide = np.zeros(EVERYWHERE.shape, np.float32)
    guide[..., 19:] = 1
    coarse = guide.reshape(4, 8, 3, 8, 5, 8).mean((1, 3, 5))[None]
    coarse[..., 2] = coarse[..., 2] > 0.5
    sharp = guided(coarse, guide)[0]
    np.testing.assert_allclose(sharp, guide, atol=0.02)
    linear = on_voxels(coarse[0], SPACING_UM, ORIGIN_UM, (32, 24, 40), VOXEL_UM)
    assert np.abs(linear - guide).max() > 0.4


def test_no_edge_is_made_where_the_guide_has_none() -> None:
    guide = np.zeros(EVERYWHERE.shape, np.float32)
    guide[..., 19:] = 1
    np.testing.assert_allclose(guided(np.full((1, 4, 3, 5), 0.7), guide), 0.7, atol=1e-5)


def test_patches_without_data_do_not_count() -> None:
    coarse, guide = np.ones((1, 4, 3, 5)), np.full(EVERYWHERE.shape, 0.5, np.float32)
    means = np.full((4, 3, 5), 0.5)
    coarse[..., 0], means[..., 0] = -99, np.nan
    found = guided(coarse, guide, means)[0]
    np.testing.assert_allclose(found[..., 4:], 1, atol=1e-5)
    assert (found[..., :3] == 0).all()


@pytest.mark.parametrize(
    ("spacing", "origin"), [(SPACING_UM, ORIGIN_UM), ((0.05, 0.3, 0.1), (0.1, -0.2, 0.0))]
)
def test_a_map_is_the_same_where_it_is_asked_for(spacing, origin) -> None:
    rng = np.random.default_rng(6)
    coarse, shape = rng.random((4, 3, 5)).astype(np.float32), (9, 24, 13)
    whole = on_voxels(coarse, spacing, origin, shape, VOXEL_UM)
    seen = VoxelMap(coarse, spacing, origin, shape, VOXEL_UM)
    places = tuple(rng.integers(0, n, 200) for n in shape)
    assert seen.shape == shape
    assert np.array_equal(seen[places], whole[places])
    assert np.array_equal(np.stack([*seen]), whole)
    assert np.array_equal(seen[8], whole[8])
