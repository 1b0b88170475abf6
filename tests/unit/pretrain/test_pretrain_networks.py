"""The networks before the first step: smoothed filters of the patch embedding."""

import math

import pytest
import torch
from small import small_recipe

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.pretrain.networks import OFFSET_SHARE, STRUCTURE_GAIN, new_network, smooth_filters

SIGMA = 1.2


def test_a_point_becomes_a_gaussian():
    weight = torch.zeros(2, 1, 8, 8, 8)
    weight[0, 0, 4, 4, 4] = 1
    weight[1] = 0.01  # a constant filter stays constant
    smooth_filters(weight, SIGMA)
    for axis in range(3):
        index = [4, 4, 4]
        index[axis] = slice(4, 8)
        profile = weight[0, 0, index[0], index[1], index[2]]
        falls = -profile.diff()
        expected = -torch.tensor([math.exp(-(r**2) / (2 * SIGMA**2)) for r in range(4)]).diff()
        torch.testing.assert_close(falls / falls[0], expected / expected[0], rtol=1e-4, atol=1e-5)
    assert weight[1].std() < 1e-6


def test_offset_is_turned_down_and_structure_up():
    offsets = torch.linspace(-1, 1, 6).reshape(6, 1, 1, 1, 1).expand(6, 1, 8, 8, 8).clone()
    weight = offsets.clone()
    smooth_filters(weight, SIGMA)
    torch.testing.assert_close(weight, OFFSET_SHARE * offsets)
    wave = torch.cos(2 * math.pi * torch.arange(8) / 8).expand(4, 1, 8, 8, 8).clone()
    weight = wave.clone()
    smooth_filters(weight, SIGMA)
    assert float(weight.std()) == pytest.approx(STRUCTURE_GAIN * float(wave.std()))


@pytest.mark.parametrize("sigma", [0.0, 1.5])
def test_fresh_networks_start_as_the_recipe_says(sigma):
    """Smoothing takes high frequencies out of the filters: neighbouring weights become alike."""
    recipe = small_recipe(patch_smoothing_voxels=sigma)
    encoder = new_network(
        recipe, EncoderParameters(embed_dim=48, depth=1, heads=2, layer_scale=1.0, drop_path=0.0), 0
    ).encoder
    weight = encoder.patch_embed.proj.weight.detach()
    left, right = weight[..., :-1].flatten(), weight[..., 1:].flatten()
    alike = float(torch.corrcoef(torch.stack([left, right]))[0, 1])
    expected = math.exp(-1 / (4 * sigma**2)) if sigma else 0.0  # autocorrelation of smoothed white noise
    assert alike == pytest.approx(expected, abs=0.05)


def test_no_smoothing_leaves_filters_alone():
    weight = torch.randn(4, 1, 8, 8, 8)
    before = weight.clone()
    smooth_filters(weight, 0.0)
    assert torch.equal(weight, before)
