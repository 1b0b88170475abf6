"""Resampling against SciPy, and parts of a result against the whole."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d, map_coordinates

from spatialdino_core.crops.resample import CHUNK_BYTES, isotropic_shape, resample_isotropic
from spatialdino_core.geometry.resampling import resample_axis, resampled_length

VOXEL = (0.2612, 0.104, 0.104)


@pytest.fixture(scope="module")
def frame():
    return np.random.default_rng(0).integers(0, 2000, (17, 23, 29)).astype(np.uint16)


def truth(frame, voxel_um, target_um):
    """SciPy's Gaussian filter where an axis shrinks, then its linear interpolation, in float64."""
    smooth = frame.astype(np.float64)
    for axis, size in enumerate(voxel_um):
        ratio = target_um / size
        if ratio > 1 + 1e-6:
            smooth = gaussian_filter1d(smooth, np.sqrt(ratio**2 - 1) / 2, axis=axis, mode="nearest")
    shape = [
        int(np.floor((n - 1) * v / target_um + 1e-6)) + 1 for n, v in zip(frame.shape, voxel_um, strict=True)
    ]
    positions = [np.arange(n) * target_um / v for n, v in zip(shape, voxel_um, strict=True)]
    return map_coordinates(smooth, np.meshgrid(*positions, indexing="ij"), order=1, mode="nearest")


@pytest.mark.parametrize("target_um", [0.104, 0.09, 0.131, 0.31, 0.5])
def test_equals_scipy(frame, target_um):
    found, expected = resample_isotropic(frame, VOXEL, target_um), truth(frame, VOXEL, target_um)
    assert found.dtype == np.float32
    assert found.shape == expected.shape == isotropic_shape(frame.shape, VOXEL, target_um)
    assert np.abs(found - expected).max() < 1e-5 * 2000


@pytest.mark.parametrize("target_um", [0.104, 0.07, 0.31])
def test_chunks_of_any_size_give_the_same_bits(frame, target_um):
    whole = resample_isotropic(frame, VOXEL, target_um, chunk_planes=10**6)
    for planes in [1, 2, 3, 5, 7, 13, len(whole) - 1]:
        assert np.array_equal(whole, resample_isotropic(frame, VOXEL, target_um, chunk_planes=planes))


@pytest.mark.parametrize("target_um", [0.104, 0.09, 0.31])
def test_a_box_has_the_bits_of_the_whole(frame, target_um):
    whole = resample_isotropic(frame, VOXEL, target_um)
    generator = np.random.default_rng(1)
    for _ in range(20):
        ends = [np.sort(generator.choice(n + 1, 2, replace=False)) for n in whole.shape]
        box = tuple(slice(int(a), int(b)) for a, b in ends)
        assert np.array_equal(
            whole[box], resample_isotropic(frame, VOXEL, target_um, box=box, chunk_planes=3)
        )


@pytest.mark.parametrize("size", [7, 11, 28])
@pytest.mark.parametrize("target_um", [0.0613, 0.104, 0.31])
def test_chunks_along_all_axes_join_without_seams(frame, size, target_um):
    """Chunks of primes and remainders of one voxel, each computed by itself, against the unchunked."""
    whole = resample_isotropic(frame, VOXEL, target_um, chunk_planes=10**6)
    joined = np.full(whole.shape, np.nan, np.float32)
    steps = [range(0, n, size if axis else 5) for axis, n in enumerate(whole.shape)]
    for z, y, x in itertools.product(*steps):
        box = (slice(z, z + 5), slice(y, y + size), slice(x, x + size))
        joined[box] = resample_isotropic(frame, VOXEL, target_um, box=box)
    assert np.abs(joined - whole).max() <= 1e-5


@pytest.mark.parametrize("target_um", [0.0613, 0.104, 0.31])
def test_axis_by_axis_in_numpy_gives_the_same_bits(frame, target_um):
    found = frame
    for axis, size in enumerate(VOXEL):
        found = resample_axis(found, axis, target_um / size)
        assert found.shape[axis] == resampled_length(frame.shape[axis], target_um / size)
    assert np.array_equal(found, resample_isotropic(frame, VOXEL, target_um))


PEAK_MEMORY = """
import resource, sys, numpy as np
from spatialdino_core.crops.resample import resample_isotropic
z, y, x = map(int, sys.argv[1:])
frame = np.zeros((z, y, x), np.uint16)
frame[::3] = 500
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
out = resample_isotropic(frame, (2.404 * 0.104, 0.104, 0.104), 0.104)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(out.nbytes, (after - before) * 1024, after * 1024)
"""


def test_memory_beyond_the_result_is_bounded_by_the_chunk():
    """A copy of the 126 MB result would be seen. (200 × 1024 × 1024: measured in benchmarks/crops.py.)"""
    command = [sys.executable, "-c", PEAK_MEMORY, "200", "256", "256"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result, grown, _ = map(int, done.stdout.split())
    assert grown - result < 4 * CHUNK_BYTES


def test_positions_in_micrometres_do_not_move():
    """A linear ramp in µm is the same ramp after resampling, also at the edges, when nothing shrinks."""
    z, y, x = (np.arange(n) * v for n, v in zip((9, 11, 12), VOXEL, strict=True))
    ramp = z[:, None, None] + 2 * y[:, None] + 3 * x
    for target_um in (0.104, 0.0613):
        found = resample_isotropic(ramp, VOXEL, target_um)
        z, y, x = (np.arange(n) * target_um for n in found.shape)
        assert np.allclose(found, z[:, None, None] + 2 * y[:, None] + 3 * x, atol=1e-5)
        z, y, x = (np.arange(n) * v for n, v in zip((9, 11, 12), VOXEL, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("target_um", [0.104, 0.09, 0.31])
def test_a_gpu_gives_the_same_bits(frame, target_um):
    on_gpu = resample_isotropic(frame, VOXEL, target_um, device="cuda")
    assert np.array_equal(on_gpu, resample_isotropic(frame, VOXEL, target_um))


def test_same_voxel_size_copies_and_single_planes_survive(frame):
    assert np.array_equal(resample_isotropic(frame, (0.1, 0.1, 0.1), 0.1), frame.astype(np.float32))
    plane = frame[:1]
    found = resample_isotropic(plane, VOXEL, 0.104)
    assert np.array_equal(found, plane.astype(np.float32))
