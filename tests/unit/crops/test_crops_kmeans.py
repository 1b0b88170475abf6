"""Crop positions: on the content, inside the volume, reproducible, and defined for any volume."""

import numpy as np
import pytest

from spatialdino_core.crops.kmeans import (
    CropBox,
    bright_voxels,
    content_levels,
    crop_boxes,
    cut_crop,
    sample_voxels,
)
from spatialdino_core.crops.parameters import CropParameters

FIXED = dict(crop_voxels=12, min_size_fraction=0, max_size_fraction=0)
PARAMETERS = CropParameters(**FIXED, low_percentile=99.0, high_percentile=99.99)
SHAPE = (40, 60, 70)
BLOBS = np.array([[10, 12, 15], [30, 45, 20], [20, 15, 55], [28, 48, 58]])


@pytest.fixture(scope="module")
def volume():
    image = np.random.default_rng(0).random(SHAPE, dtype=np.float32) * 0.1
    for z, y, x in BLOBS:
        image[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4] += 0.6
    return image


def place(volume, parameters=PARAMETERS, valid=None, seed=1):
    valid = np.ones(volume.shape, bool) if valid is None else valid
    return crop_boxes(volume, valid, parameters, np.random.default_rng(seed))


def origins(boxes):
    return np.array([box.origin_voxels for box in boxes])


def shapes(boxes):
    return np.array([box.shape_voxels for box in boxes])


def test_every_blob_has_a_crop_centred_on_it(volume):
    boxes = place(volume)
    centres = origins(boxes) + (12 - 1) / 2
    distance = np.linalg.norm(BLOBS[:, None] - centres, axis=2).min(axis=1)
    assert distance.max() < 2
    assert {box.placed_on for box in boxes} == {"foreground"}


def test_sides_are_drawn_between_fractions_of_the_volume(volume):
    parameters = CropParameters(crop_voxels=8, low_percentile=99.0, high_percentile=99.99)
    boxes = [box for seed in range(100) for box in place(volume, parameters, seed=seed)]
    fractions = shapes(boxes) / SHAPE
    assert len(boxes) == 400
    for axis in range(3):
        assert fractions[:, axis].min() == pytest.approx(0.3, abs=0.02)
        assert fractions[:, axis].max() == pytest.approx(0.6, abs=0.02)
        assert fractions[:, axis].mean() == pytest.approx(0.45, abs=0.01)
    assert abs(np.corrcoef(fractions.T)[0, 1]) < 0.2, "axis by axis"
    assert (origins(boxes) >= 0).all()
    assert (origins(boxes) + shapes(boxes) <= SHAPE).all()
    for box in boxes:
        nearest = np.clip(BLOBS, origins([box]), origins([box]) + shapes([box]) - 1)
        assert (nearest == BLOBS).all(axis=1).any(), "a blob lies in every crop"


def test_invalid_voxels_attract_nothing(volume):
    spoilt = volume.copy()
    valid = np.ones(SHAPE, bool)
    valid[:, :, :6] = False
    spoilt[:, :, :6] = 0.65
    assert place(spoilt, valid=valid) == place(np.where(valid, volume, 0), valid=valid)


def test_hot_voxels_attract_nothing(volume):
    spoilt = volume.copy()
    spoilt[0, 0, 56:70] = 1.0
    more = CropParameters(**FIXED, crops_per_frame=6, low_percentile=99.95, high_percentile=99.99)
    found = np.concatenate([origins(place(spoilt, more, seed=seed)) for seed in range(5)])
    assert not ((found[:, :2] == 0).all(axis=1) & (found[:, 2] > 50)).any()


def test_content_lies_between_percentiles_of_the_valid_voxels(volume):
    valid = np.random.default_rng(2).random(SHAPE) < 0.5
    levels = content_levels(volume, valid, PARAMETERS)
    percentiles = PARAMETERS.low_percentile, PARAMETERS.high_percentile, PARAMETERS.fallback_percentile
    for level, percent in zip(levels, percentiles, strict=True):
        assert level / 65535 == pytest.approx(np.percentile(volume[valid], percent), abs=2e-3)


def test_same_seed_same_crops(volume):
    assert place(volume, seed=3) == place(volume, seed=3)
    noise = np.random.default_rng(4).random(SHAPE, dtype=np.float32)
    assert place(noise, seed=3) != place(noise, seed=4)


def test_first_fallback_is_what_lies_above_the_lower_percentile():
    """Sparse specks in a true zero: both percentiles are 0, and nothing lies between them."""
    sparse = np.zeros(SHAPE, np.float32)
    sparse[10:13, 12:15, 14:17] = 0.9
    sparse[30:33, 42:45, 54:57] = 0.7
    parameters = CropParameters(**FIXED, crops_per_frame=2, attracted_by="intensity")
    low, high, lower = content_levels(sparse, np.ones(SHAPE, bool), parameters)
    assert low > high
    assert lower == 1
    boxes = place(sparse, parameters)
    assert {box.placed_on for box in boxes} == {"fallback"}
    centres = sorted((origins(boxes) + 5.5).tolist())
    assert np.abs(np.array(centres) - [[11, 13, 15], [31, 43, 55]]).max() <= 0.5


def test_second_fallback_is_any_valid_voxel():
    flat = np.full(SHAPE, 0.2, np.float32)
    valid = np.zeros(SHAPE, bool)
    valid[20:22, 30:32, 40:42] = True
    parameters = CropParameters(crop_voxels=8, min_size_fraction=0, max_size_fraction=0, crops_per_frame=20)
    boxes = place(flat, parameters, valid)
    assert {box.placed_on for box in boxes} == {"uniform"}
    assert (np.abs(origins(boxes) + 3.5 - [20.5, 30.5, 40.5]) <= 1).all()
    spread = origins([box for seed in range(50) for box in place(flat, seed=seed)])
    assert np.ptp(spread, axis=0).min() > 10


@pytest.mark.parametrize("crops", [1, 4, 9])
def test_there_are_as_many_crops_as_asked_for_all_inside(crops):
    parameters = CropParameters(**FIXED, crops_per_frame=crops)
    two_voxels = np.zeros(SHAPE, np.float32)
    two_voxels[0, 0, 0] = two_voxels[39, 59, 69] = 0.5
    cases = [
        (np.zeros(SHAPE, np.float32), None),
        (np.ones(SHAPE, np.float32), None),
        (np.zeros(SHAPE, np.float32), np.zeros(SHAPE, bool)),
        (two_voxels, None),
        (np.random.default_rng(5).random((3, 12, 70), dtype=np.float32), None),
        (np.random.default_rng(5).random((1, 1, 1), dtype=np.float32), None),
    ]
    for image, valid in cases:
        boxes = place(image, parameters, valid)
        assert len(boxes) == crops
        assert (origins(boxes) >= 0).all()
        assert (origins(boxes) <= np.maximum(np.array(image.shape) - 12, 0)).all()
        assert all(cut_crop(image, box).shape == (12, 12, 12) for box in boxes)


def test_at_most_five_thousand_voxels_are_clustered(volume):
    wide = CropParameters(**FIXED, low_percentile=50, high_percentile=100, fallback_percentile=10)
    voxels, placed_on = bright_voxels(volume, np.ones(SHAPE, bool), wide, np.random.default_rng(0))
    assert len(voxels) == 5000
    assert placed_on == "foreground"


def test_sampling_equals_argwhere_and_thins_it_out_evenly():
    mask = np.random.default_rng(6).random((7, 20, 30)) < 0.2
    everything = sample_voxels(lambda z: mask[z], 7, 10**6, np.random.default_rng(0))
    assert np.array_equal(everything, np.argwhere(mask))
    few = sample_voxels(lambda z: mask[z], 7, 100, np.random.default_rng(0))
    assert len(np.unique(few, axis=0)) == len(few) == 100
    assert mask[tuple(few.T)].all()
    assert np.array_equal(few, np.array(sorted(map(tuple, few))))


def test_a_crop_is_a_slice_and_small_volumes_are_reflected(volume):
    box = CropBox((3, 4, 5), (12, 13, 14), "foreground")
    assert np.array_equal(cut_crop(volume, box), volume[3:15, 4:17, 5:19])
    assert np.array_equal(cut_crop(volume[None], box), volume[None, 3:15, 4:17, 5:19])
    thin = cut_crop(volume[:5], CropBox((0, 4, 5), (12, 12, 12), "foreground"))
    assert np.array_equal(thin[5:10], volume[4::-1, 4:16, 5:17])


def test_fine_detail_finds_particles_beside_a_bright_organelle():
    """The percentiles of intensity lie within the organelle; those of detail on the particles, too."""
    generator = np.random.default_rng(4)
    z, y, x = np.indices((60, 120, 120), dtype=np.float32)
    organelle = 0.9 * np.exp(-((z - 30) ** 2 + (y - 30) ** 2 + (x - 30) ** 2) / (2 * 9**2))
    centres = generator.uniform((10, 60, 60), (50, 110, 110), (25, 3))
    particles = sum(
        0.15 * np.exp(-((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) / (2 * 1.2**2)) for a, b, c in centres
    )
    volume = generator.normal(0.05 + organelle + particles, 0.01).clip(0, 1).astype(np.float32)

    def with_particles(attracted_by):
        chosen = CropParameters(
            crop_voxels=32, min_size_fraction=0, max_size_fraction=0, crops_per_frame=12,
            low_percentile=99.75, high_percentile=100, attracted_by=attracted_by,
        )  # fmt: skip
        found = crop_boxes(volume, np.ones(volume.shape, bool), chosen, np.random.default_rng(0))
        lows = [np.array(box.origin_voxels) for box in found]
        return sum(bool(((centres >= low) & (centres < low + 32)).all(1).any()) for low in lows)

    assert with_particles("intensity") == 0
    assert with_particles("detail") >= 4
