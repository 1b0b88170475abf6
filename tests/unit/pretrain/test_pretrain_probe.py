"""The probe on features of known worth, the raw baselines, and labels made without truth."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import build_encoder
from spatialdino_core.errors import BadInputError
from spatialdino_core.pretrain.foreground import foreground_labels
from spatialdino_core.pretrain.probe import intensity_features, linear_probe, raw_voxels


def labelled(count=4000, groups=8, share=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return rng, rng.random(count) < share, np.repeat(np.arange(groups), count // groups)


@pytest.mark.parametrize("separation", [0.5, 1.5])
def test_score_of_two_gaussians_is_the_one_of_theory(separation):
    rng, labels, groups = labelled()
    features = rng.normal(size=(4000, 6))
    features[:, 2] += separation * labels
    features *= [1, 1, 1e-4, 1, 1000, 1]  # scale must not matter
    score = linear_probe(features, labels, groups)
    assert score.auroc == pytest.approx(norm.cdf(separation / math.sqrt(2)), abs=0.02)
    assert 0.3 < score.average_precision < 1
    assert score == linear_probe(features, labels, groups)


def test_perfect_and_worthless_features():
    rng, labels, groups = labelled()
    perfect = linear_probe(labels[:, None] + 0.01 * rng.normal(size=(4000, 1)), labels, groups)
    assert (perfect.auroc, perfect.average_precision) == pytest.approx((1, 1))
    worthless = linear_probe(rng.normal(size=(4000, 20)), labels, groups)
    assert worthless.auroc == pytest.approx(0.5, abs=0.03)
    assert worthless.average_precision == pytest.approx(0.3, abs=0.04)


def test_features_that_know_only_the_group_are_worthless():
    # Foreground is more frequent in some groups; a split across samples would reward knowing the group.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 300)
    shares = rng.uniform(0.05, 0.95, 12)
    labels = rng.random(3600) < shares[groups]
    score = linear_probe(np.eye(12)[groups], labels, groups)
    assert score.auroc == pytest.approx(0.5, abs=0.1)
    assert score.auroc < 0.65


def test_too_little_to_probe_is_refused():
    rng, labels, groups = labelled()
    features = rng.normal(size=(4000, 2))
    with pytest.raises(BadInputError, match="1 group"):
        linear_probe(features, labels, np.zeros(4000))
    with pytest.raises(BadInputError, match="0 foreground samples of 4000"):
        linear_probe(features, np.zeros(4000, bool), groups)
    few = np.zeros(4000, bool)
    few[:: 4000 // 19][:19] = True
    with pytest.raises(BadInputError, match="19 foreground samples of 4000"):
        linear_probe(features, few, groups)
    with pytest.raises(BadInputError, match="foreground"):  # all foreground is in one group
        linear_probe(features, groups == 0, groups)


def test_raw_features_are_in_the_order_of_patch_tokens():
    volume = torch.rand(2, 2, 8, 12, 4, generator=torch.Generator().manual_seed(0))
    patch = volume[1, :, 4:8, 8:12, 0:4]  # z 1, y 2, x 0 of a grid of 2 x 3 x 1: patch 5
    voxels = raw_voxels(volume, 4)
    assert voxels.shape == (2, 6, 128)
    np.testing.assert_array_equal(voxels[1, 5], patch.flatten().numpy())
    expected = np.concatenate([f(patch.reshape(2, -1).numpy(), axis=1) for f in (np.mean, np.std, np.max)])
    np.testing.assert_allclose(intensity_features(volume, 4)[1, 5], expected, rtol=1e-5)
    # The encoder's own patch embedding, linear in the voxels, must be reproduced from them.
    parameters = EncoderParameters(
        embed_dim=8, depth=1, heads=1, patch_voxels=4, channels=2, layer_scale=1.0, drop_path=0.0
    )
    embedding = build_encoder(parameters, torch.Generator().manual_seed(0)).patch_embed
    tokens = embedding(volume).flatten(2).transpose(1, 2).detach()
    by_hand = torch.from_numpy(voxels) @ embedding.proj.weight.flatten(1).T + embedding.proj.bias
    torch.testing.assert_close(by_hand.detach(), tokens, rtol=1e-4, atol=1e-5)


def gaussian(side, centre, width):
    grids = np.ogrid[:side, :side, :side]
    return np.exp(-sum((g - c) ** 2 for g, c in zip(grids, centre, strict=True)) / (2 * width**2))


def test_foreground_is_where_spots_are_and_not_where_it_is_bright():
    rng = np.random.default_rng(0)
    haze = 0.5 * gaussian(32, (8, 8, 8), 16)  # brighter than the spots
    spots = [(20, 5, 28), (28, 28, 4), (4, 28, 20)]
    volume = rng.normal(0.1, 0.01, (32,) * 3) + haze + sum(0.2 * gaussian(32, spot, 1.3) for spot in spots)
    views = torch.from_numpy(volume.astype(np.float32))[None, None]
    found = np.argwhere(foreground_labels(views, 8)[0].reshape(4, 4, 4))
    assert {tuple(patch) for patch in found} == {tuple(c // 8 for c in spot) for spot in spots}
    brightest = intensity_features(views, 8)[0, :, 0].argmax()
    assert not foreground_labels(views, 8)[0, brightest]
    # Scale and offset of a view are its own affair.
    np.testing.assert_array_equal(foreground_labels(3 * views + 7, 8), foreground_labels(views, 8))


def test_foreground_of_noise_is_rare_and_of_nothing_is_none():
    noise = torch.rand(4, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    assert foreground_labels(noise, 8).mean() < 0.02
    assert not foreground_labels(torch.full((1, 1, 16, 16, 16), 0.3), 8).any()
    two = torch.cat([noise[:1], torch.zeros(1, 1, 32, 32, 32)], dim=1)
    two[0, 1, 12, 12, 12] = 1
    assert foreground_labels(two, 8)[0].reshape(4, 4, 4)[1, 1, 1]
