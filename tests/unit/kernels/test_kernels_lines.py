"""Weighted sums along an axis against scipy; Triton against the reference, interpreted and on a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from spatialdino_core.kernels.lines import filter_lines, filter_lines_reference

LINE = np.array([0.5, -0.25, 1.0, 2.0, 0.75], np.float32)


def volume(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(100, 30, shape).astype(np.float32))


@pytest.mark.parametrize("shape", [(7, 20, 33), (1, 3, 2), (40, 1, 1)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_reference_is_scipys_correlation(shape, axis):
    """An uneven line, and axes shorter than it: beyond the volume is zero."""
    given = volume(*shape)
    expected = ndimage.correlate1d(given.numpy().astype(float), LINE, axis, mode="constant")
    found = filter_lines_reference(given, LINE, axis)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-4)
    assert torch.equal(filter_lines(given, LINE, axis), found)


def test_a_part_has_the_bits_of_the_whole():
    whole = filter_lines_reference(volume(40, 9, 11), LINE, 0)
    for first, stop in ((0, 10), (9, 30), (30, 40)):
        low, high = max(first - 2, 0), min(stop + 2, 40)
        part = filter_lines_reference(volume(40, 9, 11)[low:high].contiguous(), LINE, 0)
        assert torch.equal(part[first - low : stop - low], whole[first:stop])


INTERPRETED = """
import sys
sys.path.insert(0, {folder!r})
from test_kernels_lines import LINE, volume
from spatialdino_core.kernels.lines import filter_lines_reference
from spatialdino_core.kernels.lines_triton import filter_lines_triton
given = volume(11, 19, 140)
for axis in range(3):
    for line in (LINE, LINE[1:2]):
        found = filter_lines_triton(given, line, axis)
        assert found.shape == given.shape and found.dtype == given.dtype
        assert (found - filter_lines_reference(given, line, axis)).abs().max() < 1e-4, axis
print("equal")
"""


def test_triton_equals_the_reference_in_the_interpreter():
    """Lines and places along them that are no multiples of the blocks, and several blocks of each."""
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED.format(folder=str(Path(__file__).parent))],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "equal", done.stderr[-3000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_gpu_equals_the_reference(axis):
    given = volume(150, 131, 257)
    line = np.exp(-0.5 * (np.arange(-20, 21) / 5) ** 2).astype(np.float32)
    found = [filter_lines(given.cuda(), line, axis).cpu() for _ in range(2)]
    assert torch.equal(*found)
    torch.testing.assert_close(found[0], filter_lines_reference(given, line, axis), rtol=1e-5, atol=1e-3)
