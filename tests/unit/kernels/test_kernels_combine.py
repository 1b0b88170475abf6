"""Tables of taps and every implementation that executes them, against direct formulas in float64."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spatialdino_core.kernels import combine as module
from spatialdino_core.kernels.combine import combine, combine_reference, stored
from spatialdino_core.kernels.combine_affine import combine_affine
from spatialdino_core.kernels.fourier_shear import displaced
from spatialdino_core.kernels.halve import halved
from spatialdino_core.kernels.taps import PlaneMap, cubic_convolution, make_taps, weights_along

SHEAR = 2.3


def shear_map(planes: int = 7, pixels: int = 40, offset: float = 0.0, reverse: bool = False) -> PlaneMap:
    width = pixels + int(np.ceil((planes - 1) * SHEAR))
    return PlaneMap(
        planes=planes,
        pixels=pixels,
        plane=(1.0, 0.0, 0.0),
        pixel=(-SHEAR, 1.0, offset),
        shear=SHEAR,
        reversed_planes=reverse,
        rows=range(planes),
        columns=range(width),
    )


def rotation_map(planes: int = 23, pixels: int = 70, reverse: bool = False) -> PlaneMap:
    """Some turned grid with plane spacing 2 and shear 2.3 pixels."""
    cos, sin, spacing = np.cos(0.5), np.sin(0.5), 2.0
    rows, columns = 60, 150
    left, top = -3.0, 36.0
    plane = (cos / spacing, sin / spacing, (left * sin - top * cos) / spacing)
    u = (-sin, cos, left * cos + top * sin)
    pixel = tuple(u[n] - SHEAR * plane[n] for n in range(3))
    return PlaneMap(
        planes=planes,
        pixels=pixels,
        plane=plane,
        pixel=pixel,  # type: ignore[arg-type]
        shear=SHEAR,
        reversed_planes=reverse,
        rows=range(rows),
        columns=range(columns),
    )


def stack(planes: int, rows: int, pixels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65536, (planes, rows, pixels)).astype(np.uint16)


def cubic(samples: Sequence[Any], f: float) -> Any:
    """Catmull-Rom as its definition says, by differences of samples at -1, 0, 1, 2; the part that differs
    from linear interpolation enlarged by a tenth."""
    before, first, second, after = samples
    slope, next_slope = (second - before) / 2, (after - first) / 2
    hermite = (
        (2 * f**3 - 3 * f**2 + 1) * first
        + (f**3 - 2 * f**2 + f) * slope
        + (-2 * f**3 + 3 * f**2) * second
        + (f**3 - f**2) * next_slope
    )
    linear = (1 - f) * first + f * second
    return linear + 1.1 * (hermite - linear)


def orthogonal(raw: np.ndarray, plane_map: PlaneMap, k: int, i: int, order: int) -> np.ndarray | None:
    """One column of the output by the double sum of the definition; None outside the stack."""
    planes, _, pixels = raw.shape
    ascending = raw[::-1] if plane_map.reversed_planes else raw
    t = np.dot(plane_map.plane, (k, i, 1))
    r = np.dot(plane_map.pixel, (k, i, 1))
    if not (0 <= t <= planes - 1 and 0 <= r <= pixels - 1):
        return None
    below = int(np.floor(t))

    def on_plane(q: int) -> np.ndarray | None:
        position = r + (t - q) * plane_map.shear
        if not (0 <= q < planes and 0 <= position <= pixels - 1):
            return None
        e = int(np.floor(position))
        if order == 3 and 1 <= e <= pixels - 3:
            return cubic([ascending[q, :, n].astype(float) for n in range(e - 1, e + 3)], position - e)
        f = position - e
        return (1 - f) * ascending[q, :, e].astype(float) + f * ascending[q, :, min(e + 1, pixels - 1)]

    four = [on_plane(q) for q in range(below - 1, below + 3)]
    if order == 3 and all(value is not None for value in four):
        return cubic(four, t - below)
    f = t - below
    if four[1] is None or four[2] is None:
        return four[1] if four[2] is None else four[2]
    return (1 - f) * four[1] + f * four[2]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("make", [shear_map, rotation_map])
def test_reference_equals_the_double_sum_of_the_definition(make, order, reverse):
    plane_map = make(reverse=reverse)
    raw = stack(plane_map.planes, 2, plane_map.pixels)
    taps = make_taps(plane_map, order)
    block = torch.from_numpy(raw[taps.block[0], :, taps.block[1]].copy())
    found = combine_reference(block, taps, -1.0).numpy()
    for k in range(0, taps.shape[0], 3):
        for i in range(taps.shape[1]):
            expected = orthogonal(raw, plane_map, k, i, order)
            if expected is None:
                assert (found[k, :, i] == -1).all()
            else:
                np.testing.assert_allclose(found[k, :, i], expected, atol=0.05)


@pytest.mark.parametrize("pixel_last", [True, False])
@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("make", [shear_map, rotation_map])
def test_cpu_equals_the_reference_in_every_layout(make, order, pixel_last):
    plane_map = make()
    taps = make_taps(plane_map, order)
    raw = stack(plane_map.planes, 150, plane_map.pixels)[taps.block[0], :, taps.block[1]]
    expected = combine_reference(torch.from_numpy(raw.copy()), taps, 7.0).numpy()
    laid = raw if pixel_last else raw.transpose(0, 2, 1)
    for threads in (1, 3):
        found, projections = combine(laid, taps, 7, pixel_last=pixel_last, threads=threads)
        oriented = found if pixel_last else found.transpose(0, 2, 1)
        assert np.abs(oriented - expected.clip(0, 65535)).max() <= 0.55
        for axis, peak in enumerate(projections.arrays):
            assert np.array_equal(peak, np.maximum(oriented.max(axis), 7))


@pytest.mark.parametrize("pixel_last", [True, False])
@pytest.mark.parametrize("make", [shear_map, rotation_map])
def test_rows_in_any_slabs_give_the_same_bits(make, pixel_last):
    taps = make_taps(make(), 3)
    raw = stack(taps.block_shape[0], 150, taps.block_shape[1])
    laid = np.ascontiguousarray(raw if pixel_last else raw.transpose(0, 2, 1))
    axis = 1 if pixel_last else 2
    whole, _ = combine(laid, taps, 7, pixel_last=pixel_last, threads=1)
    for width in (1, 37, 64, 149):
        parts = np.array_split(laid, range(width, 150, width), axis)
        joined = [combine(part, taps, 7, pixel_last=pixel_last, threads=2)[0] for part in parts]
        assert np.array_equal(np.concatenate(joined, axis), whole)


@pytest.mark.parametrize("pixel_last", [True, False])
def test_projections_of_several_threads_miss_nothing(pixel_last):
    taps = make_taps(rotation_map(), 1)
    raw = stack(taps.block_shape[0], 400, taps.block_shape[1])
    laid = np.ascontiguousarray(raw if pixel_last else raw.transpose(0, 2, 1))
    out, alone = combine(laid, taps, 7, pixel_last=pixel_last, threads=1)
    for _ in range(40):
        again, together = combine(laid, taps, 7, pixel_last=pixel_last, threads=5)
        assert np.array_equal(again, out)
        assert all(map(np.array_equal, together.arrays, alone.arrays))


def test_a_correction_sees_each_part_with_its_place():
    taps = make_taps(rotation_map(), 1)
    raw = stack(taps.block_shape[0], 150, taps.block_shape[1])
    gain = np.linspace(0.1, 0.9, 150, dtype=np.float32)[:, None]
    corrected, _ = combine((raw * gain).astype(np.float32), taps, 0, pixel_last=True)
    found, _ = combine(
        raw, taps, 0, pixel_last=True, correction=lambda part, low: part * gain[low : low + part.shape[1]]
    )
    assert np.array_equal(found, corrected)
    turned, _ = combine(
        raw.transpose(0, 2, 1),
        taps,
        0,
        pixel_last=False,
        correction=lambda part, low: part * gain[low : low + part.shape[2], 0],
    )
    assert np.array_equal(turned.transpose(0, 2, 1), corrected)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("value", [0, 1, 200, 65535])
def test_a_constant_stack_stays_constant(order, value):
    for plane_map in (shear_map(), rotation_map()):
        taps = make_taps(plane_map, order)
        raw = np.full((taps.block_shape[0], 70, taps.block_shape[1]), value, np.uint16)
        found, _ = combine(raw, taps, 9, pixel_last=True)
        inside = np.broadcast_to(taps.mask[:, None], found.shape)
        assert (found[inside] == value).all()
        assert (found[~inside] == 9).all()


@pytest.mark.parametrize("order", [1, 3])
def test_a_crop_reads_less_and_gives_the_same_bits(order):
    plane_map = rotation_map()
    raw = stack(plane_map.planes, 70, plane_map.pixels)

    def resampled(chosen: PlaneMap) -> tuple[np.ndarray, int]:
        taps = make_taps(chosen, order)
        block = raw[taps.block[0], :, taps.block[1]]
        return combine(block, taps, 7, pixel_last=True)[0], block.size

    whole, _ = resampled(plane_map)
    part, voxels = resampled(plane_map.cropped(range(20, 31), range(50, 71)))
    assert np.array_equal(part, whole[20:31, :, 50:71])
    assert voxels < raw.size / 3


def test_rounding_is_half_to_even_and_clips():
    taps = make_taps(shear_map(planes=1, offset=0.5), 1)  # samples half-way between pixels
    raw = np.zeros((1, 4, 40), np.uint16)
    raw[0, :, ::2], raw[0, :, 1::2] = 4, np.array([1, 3, 5, 7])[:, None]
    found, _ = combine(raw, taps, 0, pixel_last=True)
    assert found[0, :, 10].tolist() == [2, 4, 4, 6]  # of 2.5, 3.5, 4.5, 5.5
    edge = np.zeros((1, 64, 40), np.uint16)
    edge[0, :, 20:] = 65535
    sharp, _ = combine(edge, make_taps(shear_map(planes=1, offset=0.3), 3), 0, pixel_last=True)
    assert set(sharp[0, 0, [18, 21]].tolist()) == {0, 65535}  # overshoots on both sides are clipped


def test_weights_follow_the_definition_and_end_linearly():
    samples = np.random.default_rng(0).normal(size=10)
    for position in (0.0, 0.4, 1.0, 5.7, 8.2, 9.0):
        first, weight = weights_along(np.array(position), 10, 3)
        e, f = int(position), position - int(position)
        if 1 <= e <= 7:
            expected = cubic(samples[e - 1 : e + 3], f)
        else:
            expected = np.interp(position, np.arange(10), samples)
        assert (weight * samples[first : first + 4]).sum() == pytest.approx(expected, abs=1e-12)


def test_cubic_convolution_keeps_sums_and_first_moments():
    f = np.linspace(0, 0.999, 50)
    weight = cubic_convolution(f)
    np.testing.assert_allclose(weight.sum(-1), 1, atol=1e-12)
    np.testing.assert_allclose(weight @ [-1, 0, 1, 2], f, atol=1e-12)


def test_short_axes_are_interpolated_with_what_there_is():
    for pixels in (1, 2, 3):
        taps = make_taps(shear_map(planes=5, pixels=pixels), 3)
        raw = stack(5, 3, pixels)[taps.block[0], :, taps.block[1]]
        found, _ = combine(raw, taps, 0, pixel_last=True)
        reference = stored(combine_reference(torch.from_numpy(raw.copy()), taps, 0.0)).numpy()
        assert np.abs(found.astype(int) - reference).max() <= 1


def test_phase_ramp_moves_a_band_limited_row_exactly():
    n = np.arange(200)
    row = sum(np.exp(-((n - centre) ** 2) / (2 * 1.5**2)) for centre in (60.3, 121.8))
    moved = displaced(torch.from_numpy(row[None]).float(), 0.37).numpy()[0]
    truth = sum(np.exp(-((n + 0.37 - centre) ** 2) / (2 * 1.5**2)) for centre in (60.3, 121.8))
    assert np.abs(moved - truth).max() < 2e-5
    constant = displaced(torch.full((3, 50), 123.0), 0.5)
    assert torch.allclose(constant, torch.full((3, 50), 123.0), atol=1e-3)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_affine_that_leaves_the_batch_axis_alone_equals_the_table(order, reverse):
    plane_map = rotation_map(reverse=reverse)
    raw = stack(plane_map.planes, 6, plane_map.pixels)
    taps = make_taps(plane_map, order)
    expected, _ = combine(raw[taps.block[0], :, taps.block[1]], taps, 7, pixel_last=True)
    lines = [plane_map.plane, (0.0, 0.0, 0.0), plane_map.pixel]
    matrix = np.array([[a, 0, b, c] for a, b, c in lines])
    matrix[1, 1] = 1
    shape = (taps.shape[0], 6, taps.shape[1])
    found = combine_affine(raw, matrix, SHEAR, order, reverse, 7, shape, threads=2)
    assert np.abs(found.astype(int) - expected).max() <= 1
    matrix[1, 3] = 1  # one whole row further
    moved = combine_affine(raw, matrix, SHEAR, order, reverse, 7, shape)
    assert np.abs(moved[:, :5].astype(int) - expected[:, 1:]).max() <= 1
    assert (moved[:, 5] == 7).all()


def test_affine_without_shear_is_trilinear_interpolation():
    from scipy.ndimage import map_coordinates

    raw = stack(9, 8, 10)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    matrix = np.concatenate([turn, [[4.0], [3.5], [4.5]] - turn @ [[4.0], [3.5], [4.5]]], 1)
    found = combine_affine(raw, matrix, 0.0, 1, False, 0, (9, 8, 10))
    index = np.stack([*np.indices((9, 8, 10)), np.ones((9, 8, 10))]).reshape(4, -1)
    position = matrix @ index
    limits = np.array(raw.shape)[:, None] - 1
    inside = ((position >= 0) & (position <= limits)).all(0)
    expected = map_coordinates(raw.astype(float), position, order=1)
    assert np.abs(found.ravel()[inside] - expected[inside]).max() <= 0.55
    assert inside.sum() > 100


@pytest.mark.parametrize("factors", [(1, 2, 2), (2, 2, 2), (1, 1, 2), (2, 1, 1), (1, 1, 1)])
def test_halving_is_the_mean_of_what_each_block_holds(factors):
    volume = stack(7, 9, 11)
    padded = np.full([n + n % 2 for n in volume.shape], np.nan)
    padded[:7, :9, :11] = volume
    z, y, x = (n // f for n, f in zip(padded.shape, factors, strict=True))
    blocks = padded.reshape(z, factors[0], y, factors[1], x, factors[2])
    found = halved(volume, factors)
    z, y, x = found.shape
    expected = np.nanmean(blocks[:z, :, :y, :, :x], (1, 3, 5))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_devices_without_triton_use_the_reference(monkeypatch):
    taps = make_taps(rotation_map(), 3)
    raw = stack(taps.block_shape[0], 40, taps.block_shape[1])
    expected, peaks = combine(raw, taps, 7, pixel_last=True)
    voxels = np.prod(taps.shape) + np.prod(taps.block_shape)
    monkeypatch.setattr(module, "DEVICE_SLAB_BYTES", int(8 * voxels * 15))
    for laid, last in ((raw, True), (np.ascontiguousarray(raw.transpose(0, 2, 1)), False)):
        found = np.empty_like(expected if last else expected.transpose(0, 2, 1))
        projections = module.Projections.start(taps.shape[0], 40, taps.shape[1], 7)
        frame = module._Frame(laid, taps, 7, None, found, projections)
        module._on_device(frame, last, torch.device("cpu"))
        oriented = found if last else found.transpose(0, 2, 1)
        assert np.abs(oriented.astype(int) - expected).max() <= 1
        for mine, theirs in zip(projections.arrays, peaks.arrays, strict=True):
            assert np.abs(mine.astype(int) - theirs).max() <= 1


INTERPRETED = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np, torch
from test_kernels_combine import rotation_map, shear_map, stack
from spatialdino_core.kernels.combine import combine_reference
from spatialdino_core.kernels.combine_triton import combine_triton
from spatialdino_core.kernels.taps import make_taps
def turned():
    return rotation_map().cropped(range(12, 17), range(20, 130))
for make in (shear_map, turned):
    for order in (1, 3):
        taps = make_taps(make(), order)
        assert 128 < len(taps.start) < 600, "several blocks; the interpreter is slow"
        raw = torch.from_numpy(stack(taps.block_shape[0], {batch}, taps.block_shape[1]))
        expected = combine_reference(raw, taps, 7.0).clamp(0, 65535)
        for laid in (raw, raw.transpose(1, 2).contiguous().transpose(1, 2)):
            found = combine_triton(laid, taps, 7)
            assert found.dtype == torch.uint16 and found.shape == expected.shape
            assert (found.float() - expected).abs().max() <= 0.55, (make, order)
print("equal")
"""


@pytest.mark.parametrize("batch", [3, 130])
def test_triton_equals_the_reference_in_the_interpreter(batch):
    """Entries and rows that are no multiples of the blocks, and more than one block of each."""
    pytest.importorskip("triton")
    code = INTERPRETED.format(folder=str(Path(__file__).parent), batch=batch)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "equal", done.stderr[-3000:]
