"""Views: geometry voxel by voxel, intensity by its formula and by the statistics of the physics."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from spatialdino_core.crops.augment import (
    IntensityChange,
    change_intensity,
    cut_cube,
    draw_change,
    draw_orientation,
    draw_start,
)
from spatialdino_core.crops.parameters import AugmentationParameters

NOTHING = IntensityChange(1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)


def changed(views, seed=0, **fields):
    """Views after the same change of each."""
    change = torch.tensor([NOTHING._replace(**fields)] * len(views), dtype=views.dtype)
    return change_intensity(views, change, range(seed, seed + len(views)))


def random_view(crop, side, axial_axis, generator):
    start = draw_start(generator, crop.shape[1:], side)
    return cut_cube(crop, start, side, draw_orientation(generator, axial_axis))


def orientations(cube, axial_axis):
    """All orientations of a (C, n, n, n) cube that leave the axial axis where it is, by NumPy's own
    rotations and flips."""
    planes = {"z": [(2, 3)], "y": [(1, 3)], "x": [(1, 2)], "none": [(1, 2), (1, 3), (2, 3)]}[axial_axis]
    turned = [cube]
    for plane in planes:
        turned = [np.rot90(t, k, plane) for t in turned for k in range(4)]
    return [
        np.flip(t, [axis + 1 for axis in range(3) if flips[axis]])
        for t in turned
        for flips in itertools.product((0, 1), repeat=3)
    ]


@pytest.mark.parametrize(("axial_axis", "count"), [("z", 16), ("y", 16), ("x", 16), ("none", 48)])
def test_views_are_all_orientations_of_all_places(axial_axis, count):
    crop = np.arange(27, dtype=np.float32).reshape(1, 3, 3, 3)
    expected = {
        turned.tobytes()
        for z, y, x in itertools.product(range(2), repeat=3)
        for turned in orientations(crop[:, z : z + 2, y : y + 2, x : x + 2], axial_axis)
    }
    assert len(expected) == 8 * count
    generator = np.random.default_rng(0)
    seen = {random_view(crop, 2, axial_axis, generator).tobytes() for _ in range(6000)}
    assert seen == expected


def test_views_copy_nothing(tmp_path):
    np.save(tmp_path / "crop.npy", np.zeros((1, 10, 10, 10), np.float32))
    mapped = np.load(tmp_path / "crop.npy", mmap_mode="r")
    assert np.shares_memory(random_view(mapped, 4, "none", np.random.default_rng(0)), mapped)


def test_tensors_are_turned_as_arrays_are():
    crop = np.random.default_rng(0).random((2, 9, 8, 7), dtype=np.float32)
    for seed in range(60):
        generator = np.random.default_rng(seed)
        start, turned = draw_start(generator, crop.shape[1:], 5), draw_orientation(generator, "none")
        expected = cut_cube(crop, start, 5, turned)
        assert np.array_equal(cut_cube(torch.from_numpy(crop), start, 5, turned).numpy(), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_views_on_a_gpu_are_those_of_the_cpu():
    views = torch.rand(2, 1, 16, 16, 16)
    change = NOTHING._replace(gamma=0.5, contrast=1.1, blur_voxels=1.2, remaining=0.7, ramp_x=0.1)
    changes = torch.tensor([change] * 2)
    expected = change_intensity(views, changes, [0, 1])
    found = change_intensity(views.cuda(), changes, [0, 1])
    torch.testing.assert_close(found.cpu(), expected, atol=1e-5, rtol=1e-5)


def test_a_view_within_another_stays_there():
    generator = np.random.default_rng(0)
    starts = np.array(
        [draw_start(generator, (50, 50, 50), 4, [(3, 9), (20, 24), (0, 50)]) for _ in range(500)]
    )
    assert set(starts[:, 0]) == {3, 4, 5}
    assert set(starts[:, 1]) == {20}
    assert starts[:, 2].min() == 0
    assert starts[:, 2].max() == 46


def test_intensity_follows_its_formula():
    views = torch.rand(2, 1, 4, 4, 4, dtype=torch.float64)
    noise = torch.randn(1, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    changes = torch.tensor([NOTHING, NOTHING._replace(gamma=2.0, contrast=0.5, noise=0.1)]).double()
    squared = views[1] ** 2
    truth = torch.stack([views[0], 0.5 * (squared - squared.mean()) + squared.mean() + 0.1 * noise])
    torch.testing.assert_close(change_intensity(views, changes, [5, 7]), truth, rtol=1e-6, atol=1e-6)


def test_noise_has_its_standard_deviation_in_normalised_units():
    """The source's noise, added to camera counts before scaling, would be invisible here."""
    views = torch.full((1, 1, 40, 40, 40), 0.3)
    noisy = changed(views, noise=0.05)
    assert noisy.std() == pytest.approx(0.05, rel=0.02)
    assert noisy.mean() == pytest.approx(0.3, abs=1e-3)
    before_scaling = ((views * 600 + 100) + 0.05 * torch.randn(views.shape) - 100) / 600
    assert before_scaling.std() < 1e-3


def test_blur_is_scipys_gaussian():
    views = torch.rand(2, 1, 20, 21, 22)
    blurred = changed(views, blur_voxels=1.7)
    for view, found in zip(views[:, 0], blurred[:, 0], strict=True):
        truth = gaussian_filter(view.numpy().astype(float), 1.7, mode="nearest")
        # Ours integrates the Gaussian over each voxel, SciPy samples it.
        assert np.abs(found.numpy() - truth).max() < 0.01
        assert np.abs(view.numpy() - truth).max() > 0.2


def test_bleaching_scales_the_signal_and_not_the_noise():
    views = torch.full((1, 1, 30, 30, 30), 0.8)
    bleached = changed(views, remaining=0.5, noise=0.02)
    assert bleached.mean() == pytest.approx(0.4, abs=1e-3)
    assert bleached.std() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("photons", [20.0, 200.0])
def test_counted_photons_are_poisson(photons):
    views = torch.full((1, 1, 40, 40, 40), 0.4)
    counted = changed(views, photons=photons)
    assert counted.mean() == pytest.approx(0.4, rel=0.02)
    assert counted.var() == pytest.approx(0.4 / photons, rel=0.05)
    assert torch.equal(counted, changed(views, photons=photons))
    assert not torch.equal(counted, changed(views, photons=photons, seed=1))


def test_only_the_views_that_count_photons_change():
    views = torch.full((2, 1, 8, 8, 8), 0.4)
    changes = torch.tensor([NOTHING, NOTHING._replace(photons=50.0)])
    result = change_intensity(views, changes, [0, 1])
    torch.testing.assert_close(result[0], views[0])
    assert result[1].std() > 0.01


def test_a_background_ramp_rises_by_its_fields():
    views = torch.zeros(1, 1, 5, 6, 7)
    ramp = changed(views, ramp_z=0.1, ramp_y=-0.2, ramp_x=0.3)[0, 0]
    z, y, x = torch.meshgrid(*(torch.linspace(0, 1, n) for n in (5, 6, 7)), indexing="ij")
    torch.testing.assert_close(ramp, 0.1 * z + 0.2 * (1 - y) + 0.3 * x)


def test_draws_fill_their_ranges_and_what_is_off_stays_off():
    generator = np.random.default_rng(0)
    off = ("contrast_change", "blur_max_voxels", "bleaching_max", "photons_min", "gradient_max")
    defaults = AugmentationParameters(gamma_min=0.25, noise_max=0.05, **dict.fromkeys(off, 0.0))
    drawn = np.array([draw_change(defaults, generator) for _ in range(4000)])
    gamma, noise = drawn[:, 0], drawn[:, 2]
    assert gamma.min() == pytest.approx(0.25, rel=0.02)
    assert gamma.max() == pytest.approx(2.0, rel=0.02)
    assert np.median(gamma) == pytest.approx(np.sqrt(0.25 * 2), rel=0.1), "evenly in the logarithm"
    assert noise.max() == pytest.approx(0.05, rel=0.02)
    assert (drawn[:, 3:] == NOTHING[3:]).all()
    assert (np.array([draw_change(defaults, generator, noisy=False) for _ in range(9)])[:, 2] == 0).all()
    every = AugmentationParameters(
        contrast_change=0.2, blur_max_voxels=1.5, bleaching_max=0.6, photons_min=30, gradient_max=0.3
    )
    drawn = np.array([draw_change(every, generator) for _ in range(4000)])
    assert drawn[:, 1].min() >= 0.8
    assert 1.45 < drawn[:, 3].max() <= 1.5
    assert 0.4 <= drawn[:, 4].min() < 0.41
    assert 30 <= drawn[:, 5].min() < 31
    assert 290 < drawn[:, 5].max() <= 300
    assert 0.29 < np.abs(drawn[:, 6:]).sum(1).max() <= 0.3
