"""Clustered background keys: exact where keys repeat, checked where not, refused where they mislead."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from spatialdino_core.encoder.cluster_check import worse_error
from spatialdino_core.encoder.clustered import cluster_keys
from spatialdino_core.encoder.streaming import StreamingEncoder
from spatialdino_core.encoder.streaming_parameters import StreamingParameters
from spatialdino_core.encoder.token_layout import bright_patches, lay_out
from spatialdino_core.encoder.token_store import make_store
from spatialdino_core.encoder.weights import load_encoder
from spatialdino_core.kernels.attention import EMPTY, attend_reference

WEIGHTS = Path(__file__).parents[3] / "weights" / "bundled.safetensors"
CLUSTERED = StreamingParameters(
    attention="clustered", clusters=16, sampled_queries=128, query_block_tokens=300, key_block_tokens=500
)


def stored(keys, values, device="cpu"):
    both = torch.cat([keys, values])
    store = make_store("device", tuple(both.shape), torch.float32, torch.device(device))
    store.write(slice(0, both.shape[1]), both)
    return store


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_as_many_clusters_as_kinds_of_keys_are_exact():
    """Keys of 12 kinds per head, values different: the mean value of equal keys is exact."""
    kinds, values, query = random(3, 12, 8), random(3, 500, 8, seed=1), random(3, 50, 8, seed=2)
    kind = torch.randint(12, (3, 500), generator=torch.Generator().manual_seed(3))
    keys = torch.stack([kinds[head, kind[head]] for head in range(3)])
    count = torch.arange(1.0, 451.0)
    found = cluster_keys(stored(keys, values), 50, count, 40, query, 128)
    used = found.log_weight > EMPTY
    assert (used.sum(1) <= 12).all()
    np.testing.assert_allclose(found.log_weight.exp().sum(1), count.sum(), rtol=1e-5)
    weights = count.log()[None].expand(3, -1).double()
    truth, truth_sum = attend_reference(
        query.double(), keys[:, 50:].double(), values[:, 50:].double(), weights
    )
    output, log_sum_exp = attend_reference(query, found.key, found.value, found.log_weight)
    np.testing.assert_allclose(output, truth, atol=2e-5)
    np.testing.assert_allclose(log_sum_exp, truth_sum, atol=2e-5)


def test_clusters_do_not_depend_on_the_blocks_read():
    keys, values, query = random(2, 700, 8), random(2, 700, 8, seed=1), random(2, 30, 8, seed=2)
    whole, parts = (
        cluster_keys(stored(keys, values), 0, torch.ones(700), 20, query, size) for size in (700, 97)
    )
    np.testing.assert_allclose(whole.key, parts.key, atol=1e-5)
    np.testing.assert_array_equal(whole.log_weight, parts.log_weight)


def scene(seed=0, side=128, texture=0.0):
    """Dim noise and bright blurred spots in one part: (1, side, side, side / 2), in [0, 1].

    ``texture`` is the standard deviation of clouds of some 4 voxels in the background.
    """
    random = np.random.default_rng(seed)
    shape = (side, side, side // 2)
    volume = 0.1 + 0.02 * random.standard_normal(shape, np.float32)
    clouds = ndimage.gaussian_filter(random.standard_normal(shape, np.float32), 4)
    volume += texture / clouds.std() * clouds
    z, y, x = np.ogrid[:side, :side, : side // 2]
    for centre in random.uniform(0, side // 2, (40, 3)):
        distance = sum((axis - c) ** 2 for axis, c in zip((z, y, x), centre, strict=True))
        volume += 0.8 * np.exp(-distance / 8).astype(np.float32)
    return volume.clip(0, 1)[None]


def bundled(sharper=1):
    """The bundled encoder; its attention logits times ``sharper``."""
    encoder, _, _ = load_encoder(WEIGHTS)
    encoder.requires_grad_(False)
    for block in encoder.blocks:
        block.attn.qkv.weight[: encoder.architecture.embed_dim] *= sharper
        block.attn.qkv.bias[: encoder.architecture.embed_dim] *= sharper
    return encoder


@pytest.fixture(scope="module")
def exact():
    return StreamingEncoder(bundled())(scene(texture=0.1))


def relative(found, truth):
    """Mean over tokens of the relative error of their features."""
    difference = np.linalg.norm(found.patch_tokens - truth.patch_tokens, axis=-1)
    return (difference / np.linalg.norm(truth.patch_tokens, axis=-1)).mean()


def test_clustered_features_are_within_the_tolerance_of_exact_ones(exact):
    """At 5 %: on so small a frame these weights need more clusters for 1 % than are worth their cost."""
    volume, parameters = scene(texture=0.1), replace(CLUSTERED, tolerance=0.05)
    found = StreamingEncoder(bundled(), parameters)(volume)
    report = found.report
    assert report.mode == "clustered"
    assert min(report.clusters) > 0
    assert 0 < report.accepted_error == max(report.errors) <= 0.05
    assert any(report.refused_errors)  # 16 were not enough everywhere
    assert report.pairs_gain > 2
    assert relative(found, exact) < 0.05
    again = StreamingEncoder(bundled(), parameters)(volume)
    assert np.array_equal(again.patch_tokens, found.patch_tokens)
    assert again.report == report


def test_error_and_report_go_together(exact):
    """With one cluster and any error tolerated the features are off, and the report says so."""
    careless = replace(CLUSTERED, clusters=1, tolerance=0.99)
    found = StreamingEncoder(bundled(), careless)(scene(texture=0.1))
    assert set(found.report.clusters) == {1}
    assert found.report.accepted_error > 0.1
    assert relative(found, exact) > 0.1


def test_sharp_attention_is_refused_and_computed_exactly():
    """Logits four times as large on a textured background: what 16 and more clusters give is refused."""
    volume = scene(texture=0.3)
    found = StreamingEncoder(bundled(sharper=4), CLUSTERED)(volume)
    assert 0 in found.report.clusters
    first = found.report.refused_errors[found.report.clusters.index(0)]
    assert len(first) == 6  # 16 to 512 clusters of some 2000 tokens
    assert min(first) > 0.01
    assert relative(found, StreamingEncoder(bundled(sharper=4))(volume)) < 0.01


def test_patches_that_are_named_foreground_stay_exact():
    """All foreground: nothing to cluster, and so exact; the same volume without a name is clustered."""
    encoder, volume = bundled(), scene(side=64)
    everything = np.ones((8, 8, 4), bool)
    found = StreamingEncoder(encoder, CLUSTERED)(volume, foreground=everything)
    truth = StreamingEncoder(encoder)(volume)
    assert set(found.report.clusters) == {0}
    assert found.report.pairs_gain == 1
    np.testing.assert_allclose(found.patch_tokens, truth.patch_tokens, atol=1e-4)


def test_order_of_tokens_returns_to_the_grid_when_foreground_comes_first():
    encoder, volume = bundled(), scene(side=64)
    volume[:, :16] = 0  # equal patches on both sides of the line between foreground and background
    some = np.random.default_rng(4).random((8, 8, 4)) < 0.3
    valid = np.random.default_rng(5).random((8, 8, 4)) < 0.9
    never = replace(CLUSTERED, clusters=100_000)
    found = StreamingEncoder(encoder, never)(volume, valid, some, class_attention=True)
    truth = StreamingEncoder(encoder, StreamingParameters(merge_identical=False))(
        volume, valid, class_attention=True
    )
    np.testing.assert_allclose(found.patch_tokens, truth.patch_tokens, atol=1e-4)
    np.testing.assert_allclose(found.class_attention, truth.class_attention, rtol=1e-3, atol=1e-8)


def test_bright_patches_are_spots_and_their_neighbours():
    peaks = np.random.default_rng(0).normal(10, 1, (9, 9, 9)).clip(8, 12).astype(np.float32)
    peaks[4, 4, 4] = 100
    truth = np.zeros((9, 9, 9), bool)
    truth[3:6, 3:6, 3:6] = True
    np.testing.assert_array_equal(bright_patches(peaks, None), truth)
    valid = np.ones((9, 9, 9), bool)
    valid[:7] = False
    assert bright_patches(peaks, valid)[3:6, 3:6, 3:6].all()


def test_rows_of_foreground_come_first_in_raster_order():
    """Of equal patches one is a row; the row is foreground if any of them is."""
    random = np.random.default_rng(0)
    volume = random.random((1, 12, 16, 20), np.float32)
    volume[:, :4] = 0  # the first layer of 4 by 5 patches
    foreground = random.random((3, 4, 5)) < 0.3
    foreground[0] = False
    foreground[0, 2, 3] = True
    layout = lay_out(volume, 4, None, foreground, merge=True, clustered=True)
    distinct = np.r_[0, np.arange(20, 60)]
    marked = foreground.ravel().copy()
    marked[0] = True
    np.testing.assert_array_equal(
        layout.patch, np.r_[distinct[marked[distinct]], distinct[~marked[distinct]]]
    )
    assert layout.foreground == marked[distinct].sum()
    np.testing.assert_array_equal(layout.count, np.where(layout.patch == 0, 20, 1))
    np.testing.assert_array_equal(layout.patch[layout.row_of], np.r_[np.zeros(20), np.arange(20, 60)])


def test_error_is_that_of_the_worse_kind_of_token():
    truth = torch.ones(2, 6, 8)  # norm 4 of each token, heads together
    approximate = truth.clone()
    approximate[1, :4, 3] += torch.tensor([0.4, 0.0, 0.8, 0.8])
    for foreground, error in (([1, 1, 0, 0, 0, 0], 0.1), ([0, 0, 1, 1, 1, 1], 0.1), ([1] * 6, 0.5 / 6)):
        found = worse_error(approximate, truth, torch.tensor(foreground, dtype=torch.bool))
        np.testing.assert_allclose(found, error, rtol=1e-5)
