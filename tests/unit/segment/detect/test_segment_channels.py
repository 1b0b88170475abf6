"""Channels and their sums against closed forms of Gaussians and against scipy, on whole frames and parts."""

from __future__ import annotations

import numpy as np
import pytest
import reference_filters as reference
from reference_filters import swept

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.optics import FACTORS, blob_signature, filter_halo

SIGMA = np.array([1.6, 2.0, 2.0])
BIG = (79, 101, 103)
CENTRE = np.array([[39.0, 50.0, 51.0]])


def _analytic(blob_sigma: np.ndarray, channel_sigma: np.ndarray) -> float:
    """Negative scale-normalised Laplacian at the centre of a Gaussian blob of height 1, filtered."""
    total = blob_sigma**2 + channel_sigma**2
    return float(np.prod(blob_sigma / np.sqrt(total)) * np.sum(channel_sigma**2 / total))


@pytest.mark.parametrize("factor", [1.0, 1.4])
def test_channels_of_a_blob_are_the_analytic_ones(spots, factor):
    block = spots(BIG, CENTRE, 1.0, factor * SIGMA).astype(np.float32)
    responses = swept([block], None, None, SIGMA)
    wide = np.sqrt(factor**2 + 16) * SIGMA
    height = factor**3 / np.prod(wide / SIGMA)
    expected = [
        _analytic(factor * SIGMA, channel * SIGMA) - height * _analytic(wide, channel * SIGMA)
        for channel in FACTORS
    ]
    # Second differences stand for derivatives, which the narrowest channel feels by 6 %.
    assert responses[:, 39, 50, 51] == pytest.approx(expected, rel=0.06)
    assert responses[1:, 39, 50, 51] == pytest.approx(expected[1:], rel=0.04)
    for response in responses:
        assert np.unravel_index(response.argmax(), BIG) == (39, 50, 51)


@pytest.mark.parametrize("offset", [(0, 0, 0), (0.3, -0.4, 0.2), (0.5, 0.5, 0.5)])
def test_signature_is_the_response_at_a_blob_also_between_voxels(spots, offset):
    """At the blob's centre the response is the signature; beside it, lower by the profile of a Gaussian."""
    block = spots(BIG, CENTRE + offset, 7.0, SIGMA).astype(np.float32)
    responses = swept([block], None, None, SIGMA)[:, 39, 50, 51] / 7
    signature = blob_signature(1.0, SIGMA)
    for channel, response, expected in zip(FACTORS, responses, signature, strict=True):
        total = SIGMA**2 * (1 + channel**2)
        square = np.square(offset) / total
        profile = np.exp(-0.5 * square.sum()) * np.sum(channel**2 * SIGMA**2 / total * (1 - square))
        profile /= np.sum(channel**2 * SIGMA**2 / total)
        assert response == pytest.approx(expected * profile, rel=0.03 if any(offset) else 1e-5)


SHAPES = {"usual": (21, 83, 38), "few rows": (14, 3, 30), "thin": (1, 40, 9), "line": (17, 1, 1)}
ONES = {"none": None, "z x": (0, 1, 0), "z y": (0, 0, 1), "x": (1, 1, 0), "all": (0, 0, 0)}


def _images(shape: tuple[int, ...], count: int, dtype: type) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.poisson(100, shape).astype(dtype) for _ in range(count)]


def _mask(shape: tuple[int, ...], ones: tuple[int, ...] | None) -> np.ndarray | None:
    """Validity that does not vary along some axes."""
    if ones is None:
        return None
    return (
        np.random.default_rng(1).random([1 if one else n for n, one in zip(shape, ones, strict=True)]) < 0.8
    )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("ones", ONES.values(), ids=ONES)
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_responses_are_those_of_scipy(shape, ones, dtype):
    sigma = np.array([1.3, 1.1, 1.2])
    valid, images = _mask(shape, ones), _images(shape, 2, dtype)
    weights = np.random.default_rng(2).normal(0, 1, (3, 2, len(FACTORS)))
    flat = [reference.flattened(image - 100.0, valid, sigma) for image in images]
    found = swept(images, weights, valid, sigma)
    for one, response in zip(weights, found, strict=True):
        expected = reference.response(flat, one, sigma)
        assert np.abs(response - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    expected = reference.channels(flat[0], sigma)
    assert np.abs(swept(images[:1], None, valid, sigma) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("ones", [None, (0, 1, 0), (0, 0, 1)])
@pytest.mark.parametrize("rows", [(0, 5), (31, 32), (40, 90), (97, 101)])
def test_some_rows_have_the_bits_of_the_whole_frame(ones, rows):
    sigma, shape = np.array([0.7, 0.9, 0.9]), (12, 101, 20)
    valid, images = _mask(shape, ones), _images(shape, 2, np.uint16)
    weights = np.random.default_rng(3).normal(0, 1, (1, 2, len(FACTORS)))
    for each in (weights, None):
        whole = swept(images, each, valid, sigma)
        assert np.array_equal(swept(images, each, valid, sigma, rows), whole[:, :, slice(*rows)])


def test_a_sum_of_channels_is_the_weighted_sum_of_all():
    rng = np.random.default_rng(0)
    images = [rng.normal(0, 10, (60, 70, 80)).astype(np.float32) for _ in range(2)]
    weights = rng.normal(0, 1, (1, 2, len(FACTORS)))
    expected = sum(
        np.tensordot(row, swept([image], None, None, SIGMA).astype(np.float64), axes=1)
        for row, image in zip(weights[0], images, strict=True)
    )
    fast = swept(images, weights, None, SIGMA)[0]
    # At the border either order cuts other tails; elsewhere they differ by rounding only.
    inner = tuple(slice(h, -h) for h in (25, 30, 30))
    assert np.abs(fast - expected)[inner].max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("with_wedge", [False, True])
def test_constant_background_makes_no_response_up_to_the_border(with_wedge):
    z, x = np.arange(20)[:, None, None], np.arange(60)[None, None, :]
    valid = (x > z) & (x < 35 + z) if with_wedge else None
    block = np.full((20, 24, 60), 50, np.float32)
    if valid is not None:
        block = np.where(valid, block, np.float32(np.nan))  # whatever the fill is
    response = swept([block], np.ones((1, 1, len(FACTORS))), valid, SIGMA)[0]
    inside = np.ones(block.shape, bool) if valid is None else np.broadcast_to(valid, block.shape)
    assert np.abs(response[inside]).max() < 1e-3


def test_a_ramp_makes_no_response_away_from_the_border():
    ramp = np.broadcast_to(np.arange(150, dtype=np.float32), (90, 110, 150))
    response = swept([ramp], np.ones((1, 1, len(FACTORS))), None, SIGMA)[0]
    h = filter_halo(SIGMA)
    inside = response[h[0] - 25 : 25 - h[0], h[1] - 25 : 25 - h[1], h[2] : -h[2]]
    assert inside.size > 0
    assert np.abs(inside).max() < 0.01


@pytest.mark.parametrize("with_wedge", [False, True])
def test_the_halo_is_all_that_a_response_depends_on(with_wedge):
    """Of another frame with the same voxels in reach."""
    rng = np.random.default_rng(1)
    sigma = np.array([0.7, 0.9, 0.9])
    halo = filter_halo(sigma)
    shape = tuple(2 * h + 9 for h in halo)
    frame = rng.normal(0, 10, shape).astype(np.float32)
    z, x = np.arange(shape[0])[:, None, None], np.arange(shape[2])[None, None, :]
    valid = (x > 0.4 * z) & (x < 0.4 * z + shape[2] - 20) if with_wedge else None
    weights = rng.normal(0, 1, (1, 1, len(FACTORS)))
    whole = swept([frame], weights, valid, sigma)[0]
    core = tuple(slice(h + 3, h + 6) for h in halo)
    other = rng.normal(0, 10, shape).astype(np.float32)
    reach = tuple(slice(3, 2 * h + 6) for h in halo)
    other[reach] = frame[reach]
    found = swept([other], weights, valid, sigma)[0]
    assert np.abs(found - whole).max() > 1
    assert np.abs(found[core] - whole[core]).max() < 1e-5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_where_they_are_valid(value):
    frame = np.zeros((8, 30, 20), np.float32)
    frame[3, 17, 5] = value
    weights = np.ones((1, 1, len(FACTORS)))
    with pytest.raises(BadInputError, match="frame: found NaN or infinite"):
        swept([frame], weights, None, SIGMA)
    valid = np.isfinite(frame)
    assert np.abs(swept([frame], weights, valid, SIGMA)).max() < 1e-6
