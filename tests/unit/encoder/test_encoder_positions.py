"""Positions against their formulas, and what each kind promises about other grids."""

import math
from dataclasses import replace

import numpy as np
import plain_vit as plain
import pytest
import torch
from plain_vit import shaken, volumes
from scipy.ndimage import map_coordinates

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.positions import LearnedPositions, RotaryPositions, SinePositions, rotate
from spatialdino_core.encoder.vit import build_encoder

ROPE = EncoderParameters(
    embed_dim=32,
    heads=2,
    depth=2,
    patch_voxels=4,
    positions="rope",
    position_base=50,
    layer_scale=1.0,
    drop_path=0.0,
)
CPU = torch.device("cpu")


def rope():
    positions = RotaryPositions(ROPE)
    positions.reset()
    return positions


def test_sines_follow_their_formula():
    parameters = EncoderParameters(
        embed_dim=20, heads=2, positions="sincos", position_base=30, layer_scale=1.0, drop_path=0.0
    )
    found = SinePositions(parameters)((2, 3, 4), CPU)[0]
    for index, place in zip((0, 5, 23), [(-0.5, -1, -1.5), (-0.5, 0, -0.5), (0.5, 1, 1.5)], strict=True):
        truth = [
            wave(place[axis] * 30 ** (-k / 3))
            for axis in range(3)
            for wave in (math.sin, math.cos)
            for k in range(3)
        ]
        np.testing.assert_allclose(found[index], [*truth, 0, 0], atol=1e-6)


def test_sines_of_a_larger_grid_extend_those_of_a_smaller_one():
    positions = SinePositions(
        EncoderParameters(embed_dim=24, heads=2, positions="sincos", layer_scale=1.0, drop_path=0.0)
    )
    small, large = positions((2, 3, 4), CPU)[0], positions((4, 3, 8), CPU)[0]
    torch.testing.assert_close(large.reshape(4, 3, 8, 24)[1:3, :, 2:6].flatten(0, 2), small, rtol=0, atol=0)
    assert len(small.unique(dim=0)) == 24  # every patch knows its own place


def learned(grid=(3, 4, 5)):
    parameters = EncoderParameters(
        embed_dim=6, heads=1, positions="learned", position_grid=grid, layer_scale=1.0, drop_path=0.0
    )
    return build_encoder(parameters, torch.Generator().manual_seed(0)).positions.requires_grad_(False)


def test_learned_positions_are_themselves_on_their_grid():
    positions = learned()
    assert isinstance(positions, LearnedPositions)
    found = positions((3, 4, 5))[0]
    for index, (z, y, x) in enumerate(np.ndindex(3, 4, 5)):
        assert torch.equal(found[index], positions.table[0, :, z, y, x])


@pytest.mark.parametrize("grid", [(6, 8, 7), (2, 4, 3), (1, 1, 9)])
def test_learned_positions_are_interpolated_trilinearly(grid):
    positions = learned()
    places = np.meshgrid(
        *[(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(grid, (3, 4, 5), strict=True)], indexing="ij"
    )
    truth = [map_coordinates(f, places, order=1, mode="nearest") for f in positions.table[0].numpy()]
    np.testing.assert_allclose(positions(grid)[0].T.reshape(6, *grid), truth, atol=1e-6)


def test_rotations_of_a_fresh_encoder_follow_their_formula():
    frequencies = rope().frequencies
    assert frequencies.shape == (3, 8)
    expected = np.zeros((3, 8))
    for axis in range(3):
        for k in range(2):  # 8 pairs: two per axis, two that never turn
            expected[axis, 2 * axis + k] = 50 ** (-k / 2)
    np.testing.assert_allclose(frequencies, expected, rtol=1e-6)


def test_scores_depend_only_on_where_tokens_are_to_each_other():
    grid = (3, 4, 5)
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 16, generator=generator, dtype=torch.float64)
    rotation = rope().double()(grid, 1)
    turned = [rotate(x.expand(1, 1, 61, 16), rotation)[0, 0, 1:] for x in (query, key)]
    scores = (turned[0] @ turned[1].T).numpy()
    places = plain.centred(grid).numpy()
    by_offset: dict[tuple[float, ...], list[float]] = {}
    for i, j in np.ndindex(60, 60):
        by_offset.setdefault(tuple(places[i] - places[j]), []).append(scores[i, j])
    assert max(np.ptp(values) for values in by_offset.values()) < 1e-5  # angles in float32 grow to 4
    assert np.std([values[0] for values in by_offset.values()]) > 0.1


def test_class_token_and_registers_do_not_turn():
    rotation = rope()((2, 2, 2), 3)
    x = torch.randn(1, 2, 11, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rotate(x, rotation)[:, :, :3], x[:, :, :3])
    assert (rotate(x, rotation)[:, :, 3:] != x[:, :, 3:]).any(-1).all()
    torch.testing.assert_close(rotate(x, rotation).norm(dim=-1), x.norm(dim=-1))


@pytest.mark.parametrize("move", [lambda m: m.bfloat16(), lambda m: m.half(), lambda m: m.to(torch.bfloat16)])
def test_rotations_are_never_rounded_to_half_precision(move):
    truth = shaken(ROPE).float().rotation((2, 2, 90))
    model = move(shaken(ROPE).float())
    assert model.cls_token.itemsize == 2
    torch.testing.assert_close(model.rotation((2, 2, 90)), truth, rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.rotation((2, 2, 90)), truth, rtol=0, atol=0)
    assert model(volumes(1, 1, 8, 8, 8).to(model.cls_token)).patch_tokens.isfinite().all()


@pytest.mark.parametrize("positions", ["sincos", "learned", "rope"])
def test_any_grid_is_encoded(positions):
    model = shaken(replace(ROPE, positions=positions, position_grid=(2, 2, 2)))
    for grid in [(1, 1, 1), (2, 2, 2), (3, 1, 5)]:
        output = model(volumes(2, 1, *(4 * n for n in grid)))
        assert output.patch_tokens.shape == (2, math.prod(grid), 32)
        assert output.patch_tokens.isfinite().all()
