"""The look at held-out views: what it reports is what a plain pass through the network gives."""

import math

import numpy as np
import pytest
import torch
from small import small_recipe
from watched_training import ENCODER, SMALL, noise, spots

from spatialdino_core.pretrain.examine import baseline_figures, examine
from spatialdino_core.pretrain.figures import mean_cosine, rank_me
from spatialdino_core.pretrain.foreground import foreground_labels
from spatialdino_core.pretrain.networks import new_network
from spatialdino_core.pretrain.probe import linear_probe

RECIPE = small_recipe(**SMALL)


@pytest.fixture(scope="module")
def network():
    return new_network(RECIPE, ENCODER, 0).requires_grad_(False)


def views(crop=spots, count=20):
    return torch.from_numpy(np.stack([crop(index, side=16) for index in range(count)]))


def test_figures_are_those_of_one_plain_pass(network):
    shown = views()
    labels = foreground_labels(shown, 4)
    found = examine(network, shown, labels)
    output = network.encoder(shown, depths=(0, 1))
    patches = output.patch_tokens.flatten(0, 1)
    figures = found.figures
    assert figures["class_cosine"] == pytest.approx(mean_cosine(output.class_token), rel=1e-5)
    assert figures["class_output_rankme"] == pytest.approx(
        rank_me(network.class_head(output.class_token)), rel=1e-3
    )
    assert figures["patch_cosine"] == pytest.approx(mean_cosine(patches), abs=0.01)  # of 512 patches
    norms = output.intermediate[1][:, network.encoder.first_patch :].norm(dim=-1)
    assert figures["block_1_norm_max"] == pytest.approx(float(norms.max()), rel=1e-5)
    assert figures["block_1_norm_p50"] == pytest.approx(float(norms.median()), rel=1e-5)
    score = linear_probe(patches, labels.ravel(), np.repeat(np.arange(20), 64))
    assert figures["probe_auroc"] == pytest.approx(score.auroc, abs=1e-3)
    spread = [0, 3, 7, 11, 15, 19]
    torch.testing.assert_close(found.patch_tokens, output.patch_tokens[spread])
    torch.testing.assert_close(found.views, shown[spread])
    assert found.grid == (4, 4, 4)
    again = examine(network, shown, labels).figures
    assert again == figures


def test_a_planted_outlier_is_seen_in_its_block(network):
    shown = views()
    quiet = examine(network, shown, foreground_labels(shown, 4)).figures
    shown[0, :, :4, :4, :4] *= 100
    loud = examine(network, shown, foreground_labels(shown, 4)).figures
    ratios = [f["block_0_norm_max"] / f["block_0_norm_p50"] for f in (quiet, loud)]
    assert ratios[1] > 2 * ratios[0]


def test_views_without_foreground_are_no_error(network):
    empty = views(noise, 4)
    labels = np.zeros((4, 64), bool)
    assert math.isnan(examine(network, empty, labels).figures["probe_auroc"])
    baseline = baseline_figures(empty, labels, 4)
    assert all(math.isnan(value) for value in baseline.values())


def test_baselines_are_scored_on_what_intensity_tells(network):
    shown = views()
    bright = shown.unfold(2, 4, 4).unfold(3, 4, 4).unfold(4, 4, 4).amax((-3, -2, -1)).flatten(1) > 0.5
    baseline = baseline_figures(shown, bright.numpy(), 4)
    assert baseline["intensity_auroc"] > 0.99  # the maximum is one of the three intensities
    assert 0.5 < baseline["voxels_auroc"] < baseline["intensity_auroc"]


def test_of_many_patches_as_many_of_each_view_are_looked_at(network, monkeypatch):
    shown = views()
    labels = foreground_labels(shown, 4)
    monkeypatch.setattr("spatialdino_core.pretrain.examine.MAX_PATCHES", 200)
    seen = []
    monkeypatch.setattr(
        "spatialdino_core.pretrain.examine.linear_probe",
        lambda features, y, groups: seen.append((features, y, groups)) or linear_probe(features, y, groups),
    )
    examine(network, shown, labels)
    features, y, groups = seen[0]
    assert np.bincount(groups).tolist() == [10] * 20
    tokens = network.encoder(shown).patch_tokens
    places = [
        {int(i) for i in torch.cdist(tokens[v], torch.from_numpy(features[groups == v])).argmin(0)}
        for v in range(20)
    ]
    assert all(place == places[0] for place in places)
    assert y.tolist() == labels[:, sorted(places[0])].ravel().tolist()
