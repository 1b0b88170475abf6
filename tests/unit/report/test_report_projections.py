"""Projections, contrast and outlines against NumPy's own maxima and hand-counted shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spatialdino_core.movies.store import FrameStore, StoreLayout
from spatialdino_core.report.projections import (
    Projections,
    feature_colours,
    outlines,
    project,
    robust_limits,
    shrink,
)

VOXEL_UM = (0.3, 0.1, 0.12)


def test_projections_over_several_slabs_are_numpys_maxima(tmp_path: Path) -> None:
    layout = StoreLayout(
        shape_czyx=(2, 70, 9, 11), dtype="uint16", voxel_um=VOXEL_UM, interval_s=1.0, channels=("a", "b")
    )
    data = np.random.default_rng(0).integers(0, 60000, layout.shape_czyx).astype(np.uint16)
    store = FrameStore.prepare(tmp_path / "a.zarr", layout, 2, {})
    store.write(1, data)
    for channel in range(2):
        found = project(store, 1, channel)
        np.testing.assert_array_equal(found.xy, data[channel].max(axis=0))
        np.testing.assert_array_equal(found.xz, data[channel].max(axis=1))
    assert found.extent_um == pytest.approx((21.0, 0.9, 1.32))


def test_contrast_ignores_the_fill_and_outliers() -> None:
    image = np.random.default_rng(0).uniform(100, 200, (200, 200))
    image[:, :100] = 0
    image[0, 150] = 1e6
    low, high = robust_limits([image])
    assert 100 <= low < 102
    assert 199 < high <= 201
    low, high = robust_limits([np.zeros((3, 3)), np.full((2, 2), np.nan)])
    assert high > low
    low, high = robust_limits([np.full((5, 5), 7.0)])
    assert high > low


def test_shrinking_keeps_single_bright_pixels() -> None:
    image = np.zeros((1000, 350), np.uint16)
    image[999, 349] = image[500, 3] = 9
    small = shrink(image, 100)
    assert small.shape == (100, 88)
    assert (small == 9).sum() == 2
    assert small[-1, -1] == 9
    assert shrink(small, 100) is small


def test_outlines_run_along_pixel_edges() -> None:
    labels = np.zeros((6, 7), np.uint32)
    labels[2:4, 1:4] = 5
    labels[0, 6] = 2
    segments = outlines(labels, (0.5, 2.0))
    assert len(segments) == 2 * (2 + 3) + 4
    block = segments[segments[:, :, 0].max(axis=1) <= 3.5 * 2.0 + 1e-9]
    assert block[..., 0].min() == pytest.approx(0.5 * 2.0)
    assert block[..., 0].max() == pytest.approx(3.5 * 2.0)
    assert block[..., 1].min() == pytest.approx(1.5 * 0.5)
    assert block[..., 1].max() == pytest.approx(3.5 * 0.5)
    lengths = np.abs(block[:, 1] - block[:, 0]).sum(axis=1)
    assert lengths.sum() == pytest.approx(2 * (3 * 2.0 + 2 * 0.5))
    labels[2:4, 1] = 6
    assert len(outlines(labels, (1, 1))) == 14 + 2, "touching objects are told apart"
    assert outlines(np.zeros((3, 3)), (1, 1)).shape == (0, 2, 2)


def test_a_part_lies_inside_and_knows_where() -> None:
    xy = np.arange(40 * 50).reshape(40, 50)
    whole = Projections(xy, np.zeros((8, 50)), (0.3, 0.1, 0.2))
    part = whole.part((2.0, 5.0), 1.0)
    assert part.xy.shape == (10, 5)
    row, column = (round(first / pixel) for first, pixel in zip(part.first_um, (0.1, 0.2), strict=True))
    np.testing.assert_array_equal(part.xy, xy[row : row + 10, column : column + 5])
    assert abs(part.first_um[0] + 0.5 - 2.0) <= 0.1
    assert abs(part.first_um[1] + 0.5 - 5.0) <= 0.2
    corner = whole.part((0.0, 99.0), 1.0)
    np.testing.assert_array_equal(corner.xy, xy[:10, -5:])
    np.testing.assert_array_equal(whole.part((0, 0), 1000.0).xy, xy)


def test_colours_come_from_the_most_active_patch() -> None:
    components = np.zeros((4, 2, 1, 3), np.float32)
    components[:3, 1, 0, 0] = [1.0, -1.0, 0.0]
    components[:3, 0, 0, 0] = 0.3
    components[:3, 0, 0, 1] = [9.0, 0.5, -9.0]
    activation = np.array([[[0.5, 2.0, 0.0]], [[3.0, 1.0, 0.0]]])
    colours = feature_colours(components, activation, np.tile([-1.0, 1.0], (3, 1)))
    np.testing.assert_allclose(colours, [[[1, 0, 0.5], [1, 0.75, 0], [0, 0, 0]]])


def test_one_component_still_has_a_colour() -> None:
    components = np.ones((1, 1, 1, 1), np.float32)
    colours = feature_colours(components, np.ones((1, 1, 1)), np.tile([0.0, 2.0], (3, 1)))
    np.testing.assert_allclose(colours, [[[0.5, 0.5, 0.5]]])
