"""Channels against closed forms of Gaussians, their weighted sum against themselves, and borders."""

from __future__ import annotations

import numpy as np
import pytest

from spatialdino_core.segment.channels import (
    FACTORS,
    blob_signature,
    channel_responses,
    filter_halo,
    flattened,
    weighted_response,
)

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
    responses = channel_responses(block, SIGMA)
    expected = [_analytic(factor * SIGMA, channel * SIGMA) for channel in FACTORS]
    # Second differences stand for derivatives, which the narrowest channel feels by 6 %.
    assert responses[:, 39, 50, 51] == pytest.approx(expected, rel=0.06)
    assert responses[1:, 39, 50, 51] == pytest.approx(expected[1:], rel=0.04)
    for response in responses:
        assert np.unravel_index(response.argmax(), BIG) == (39, 50, 51)


@pytest.mark.parametrize("offset", [(0, 0, 0), (0.3, -0.4, 0.2), (0.5, 0.5, 0.5)])
def test_signature_is_the_response_at_a_blob_also_between_voxels(spots, offset):
    """At the blob's centre the response is the signature; beside it, lower by the profile of a Gaussian."""
    block = spots(BIG, CENTRE + offset, 7.0, SIGMA).astype(np.float32)
    responses = channel_responses(flattened(block, None, SIGMA), SIGMA)[:, 39, 50, 51] / 7
    signature = blob_signature(1.0, SIGMA)
    for channel, response, expected in zip(FACTORS, responses, signature, strict=True):
        total = SIGMA**2 * (1 + channel**2)
        square = np.square(offset) / total
        profile = np.exp(-0.5 * square.sum()) * np.sum(channel**2 * SIGMA**2 / total * (1 - square))
        profile /= np.sum(channel**2 * SIGMA**2 / total)
        assert response == pytest.approx(expected * profile, rel=0.03)


def test_weighted_response_is_the_weighted_sum_of_all_channels():
    rng = np.random.default_rng(0)
    images = [rng.normal(0, 10, (60, 70, 80)).astype(np.float32) for _ in range(3)]
    weights = rng.normal(0, 1, (3, len(FACTORS)))
    expected = sum(
        np.tensordot(row, channel_responses(image, SIGMA).astype(np.float64), axes=1)
        for row, image in zip(weights, images, strict=True)
    )
    fast = weighted_response(images, weights, SIGMA)
    # At the border either order cuts other tails; elsewhere they differ by rounding only.
    inner = tuple(slice(h, -h) for h in (25, 30, 30))
    assert np.abs(fast - expected)[inner].max() < 5e-6 * np.abs(expected).max()


@pytest.mark.parametrize("with_wedge", [False, True])
def test_constant_background_makes_no_response_up_to_the_border(with_wedge):
    z, x = np.arange(20)[:, None, None], np.arange(60)[None, None, :]
    valid = (x > z) & (x < 35 + z) if with_wedge else None
    block = np.full((20, 24, 60), 50, np.float32)
    block = block if valid is None else np.where(valid, block, np.float32(0))
    response = weighted_response([flattened(block, valid, SIGMA)], np.ones((1, len(FACTORS))), SIGMA)
    inside = np.ones(block.shape, bool) if valid is None else np.broadcast_to(valid, block.shape)
    assert np.abs(response[inside]).max() < 1e-3


def test_a_ramp_makes_no_response_away_from_the_border():
    ramp = np.broadcast_to(np.arange(150, dtype=np.float32), (90, 110, 150))
    response = weighted_response([flattened(ramp, None, SIGMA)], np.ones((1, len(FACTORS))), SIGMA)
    h = filter_halo(SIGMA)
    inside = response[h[0] - 25 : 25 - h[0], h[1] - 25 : 25 - h[1], h[2] : -h[2]]
    assert inside.size > 0
    assert np.abs(inside).max() < 0.01


@pytest.mark.parametrize("with_wedge", [False, True])
def test_the_halo_is_all_that_a_response_depends_on(with_wedge):
    """Bit for bit, so that tiles change nothing."""
    rng = np.random.default_rng(1)
    sigma = np.array([0.7, 0.9, 0.9])
    halo = filter_halo(sigma)
    shape = tuple(2 * h + 9 for h in halo)
    frame = rng.normal(0, 10, shape).astype(np.float32)
    z, x = np.arange(shape[0])[:, None, None], np.arange(shape[2])[None, None, :]
    valid = (x > 0.4 * z) & (x < 0.4 * z + shape[2] - 20) if with_wedge else None
    if valid is not None:
        frame = np.where(valid, frame, np.float32(0))
    weights = rng.normal(0, 1, (1, len(FACTORS)))
    whole = weighted_response([flattened(frame, valid, sigma)], weights, sigma)
    core = tuple(slice(h + 3, h + 6) for h in halo)
    outer = tuple(slice(3, 2 * h + 6) for h in halo)
    part = None if valid is None else valid[outer[0], :, outer[2]]
    tile = weighted_response([flattened(frame[outer], part, sigma)], weights, sigma)
    assert np.array_equal(tile[tuple(slice(h, h + 3) for h in halo)], whole[core])
