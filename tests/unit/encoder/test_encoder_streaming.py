"""The streaming encoder against the plain one on whole small volumes, for every store and chunking."""

from dataclasses import replace

import numpy as np
import plain_vit as plain
import pytest
import torch
from plain_vit import shaken

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.streaming import StreamingEncoder, token_layout
from spatialdino_core.encoder.streaming_parameters import StreamingParameters
from spatialdino_core.errors import BadInputError

TINY = EncoderParameters(
    embed_dim=24,
    depth=3,
    heads=3,
    patch_voxels=4,
    layer_scale=0.7,
    registers=2,
    test_time_registers=1,
    drop_path=0.0,
)
SMALL_BLOCKS = StreamingParameters(query_block_tokens=29, key_block_tokens=41)


def image(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def model_of(parameters=TINY, **changes):
    return shaken(replace(parameters, **changes)).float()


def plain_output(model, volume):
    """Float64 tokens (gz, gy, gx, D), class token (D,) and class attention (heads, gz, gy, gx)."""
    model = model.double()
    with torch.no_grad():
        output = model(torch.from_numpy(volume[None]).double(), class_attention=True)
    model.float()
    tokens = output.patch_tokens[0].unflatten(0, output.grid).numpy()
    return tokens, output.class_token[0].numpy(), output.class_attention[0].unflatten(1, output.grid).numpy()


def assert_equal(found, truth, tolerance=1e-4):
    tokens, class_token, attention = truth
    np.testing.assert_allclose(found.patch_tokens, tokens, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.class_token, class_token, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.class_attention, attention, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("store", ["device", "cpu", "disk"])
@pytest.mark.parametrize("blocks", [(29, 41), (1000, 1000), (64, 7), (7, 64), (1000, 1)])
def test_equals_the_plain_encoder_for_every_store_and_chunking(store, blocks, tmp_path):
    model, volume = model_of(), image(1, 16, 20, 24)
    parameters = StreamingParameters(store=store, query_block_tokens=blocks[0], key_block_tokens=blocks[1])
    found = StreamingEncoder(model, parameters, folder=tmp_path)(volume, class_attention=True)
    assert found.patch_tokens.shape == (4, 5, 6, 24)
    assert found.report.store == store
    assert_equal(found, plain_output(model, volume))
    assert list(tmp_path.iterdir()) == []  # files have no names


@pytest.mark.parametrize("positions", ["none", "sincos", "learned", "rope"])
@pytest.mark.parametrize("feed_forward", ["mlp", "swiglu"])
def test_equals_the_plain_encoder_for_every_architecture(positions, feed_forward, monkeypatch):
    monkeypatch.setattr(token_layout, "TILE_PATCHES", 13)
    model = model_of(positions=positions, feed_forward=feed_forward, channels=2, position_grid=(2, 3, 4))
    volume = image(2, 12, 16, 20)
    found = StreamingEncoder(model, SMALL_BLOCKS)(volume, class_attention=True)
    assert_equal(found, plain_output(model, volume))


def test_learned_positions_of_their_own_grid():
    model, volume = model_of(positions="learned", position_grid=(3, 4, 5)), image(1, 12, 16, 20)
    found = StreamingEncoder(model, SMALL_BLOCKS)(volume, class_attention=True)
    assert_equal(found, plain_output(model, volume))


def test_bfloat16_stays_close():
    model, volume = model_of(), image(1, 16, 20, 24)
    truth = plain_output(model, volume)
    found = StreamingEncoder(model, SMALL_BLOCKS, precision="bfloat16")(volume)
    assert found.report.precision == "bfloat16"
    for part, true in zip((found.patch_tokens, found.class_token), truth[:2], strict=True):
        assert 1e-5 < np.linalg.norm(part - true) / np.linalg.norm(true) < 0.03
    assert found.class_attention is None


@pytest.mark.parametrize("positions", ["none", "rope", "learned"])
def test_patches_without_data_are_neither_computed_nor_seen(positions):
    """Against the same tokens taken out of the plain transformer's sequence, by its formulas."""
    model, volume = model_of(positions=positions), image(1, 16, 12, 20)
    grid, valid = (4, 3, 5), np.random.default_rng(1).random((4, 3, 5)) < 0.5
    volume[np.kron(~valid, np.ones((4, 4, 4), bool))[None]] = np.nan  # would show anywhere
    found = StreamingEncoder(model, SMALL_BLOCKS)(volume, valid, class_attention=True)
    tokens, class_token, attention = truth_of_kept(model, volume, valid, grid)
    np.testing.assert_allclose(found.patch_tokens[valid], tokens, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.class_token, class_token, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.class_attention[:, valid], attention, rtol=1e-3)
    assert np.isnan(found.patch_tokens[~valid]).all()
    assert (found.class_attention[:, ~valid] == 0).all()
    assert found.report.distinct_tokens == found.report.tokens == valid.sum() + 4


def truth_of_kept(model, volume, valid, grid):
    model.double()
    state, kept = model.state_dict(), torch.from_numpy(valid.ravel())
    patches = plain.embedded(state, torch.from_numpy(volume[None]).double(), 4)
    angles = None
    if positions := getattr(model, "positions", None):
        if model.architecture.positions == "learned":
            patches = patches + positions(grid)
        else:
            angles = plain.centred(grid)[kept] @ positions.frequencies.double()
            angles = torch.cat([angles.new_zeros(4, angles.shape[1]), angles])
    leading = torch.cat([model.cls_token, model.register_tokens, model.cls_token.new_zeros(1, 1, 24)], 1)
    states = plain.blocks(state, torch.cat([leading, patches[:, kept]], 1), 3, angles=angles)
    final = plain.layer_norm(state, "norm", states[-1])[0].detach()
    normed = plain.layer_norm(state, "blocks.2.norm1", states[-2])
    scores = plain.attention(state, "blocks.2.attn", normed, 3, angles)[1][0, :, 0, 4:].detach()
    model.float()
    return final[4:].numpy(), final[0].numpy(), (scores / scores.sum(-1, keepdim=True)).numpy()


def with_duplicates():
    """A volume of 5 by 4 by 6 patches, more than half of them zero, and another pattern seven times."""
    volume, random = image(1, 20, 16, 24), np.random.default_rng(2)
    kinds = random.permutation(np.r_[np.zeros(70), np.ones(7), np.full(43, 2)]).reshape(5, 4, 6)
    pattern = np.tile(image(4, 4, 4, seed=3), (5, 4, 6))
    which = np.kron(kinds, np.ones((4, 4, 4)))
    volume[0] = np.where(which == 0, 0, np.where(which == 1, pattern, volume[0]))
    return volume


@pytest.mark.parametrize("store", ["device", "disk"])
def test_equal_patches_are_computed_once_and_count_as_many(store, tmp_path):
    model, volume = model_of(), with_duplicates()
    found = StreamingEncoder(model, replace(SMALL_BLOCKS, store=store), folder=tmp_path)(
        volume, class_attention=True
    )
    assert found.report.tokens == 120 + 4
    assert found.report.distinct_tokens == 45 + 4
    assert_equal(found, plain_output(model, volume))


@pytest.mark.parametrize(("positions", "merge"), [("rope", True), ("learned", True), ("none", False)])
def test_equal_patches_stay_apart_where_they_must(positions, merge):
    model, volume = model_of(positions=positions), with_duplicates()
    found = StreamingEncoder(model, replace(SMALL_BLOCKS, merge_identical=merge))(
        volume, class_attention=True
    )
    assert found.report.distinct_tokens == 120 + 4
    assert_equal(found, plain_output(model, volume))


def test_same_bits_every_time_and_for_every_store():
    model, volume = model_of(), image(1, 16, 20, 24)
    runs = [
        StreamingEncoder(model, replace(SMALL_BLOCKS, store=store))(volume)
        for store in ("device", "disk") * 2
    ]
    for run in runs[1:]:
        assert np.array_equal(run.patch_tokens, runs[0].patch_tokens)


def test_auto_takes_the_first_store_that_holds_the_tokens():
    model, volume = model_of(), image(1, 64, 64, 64)
    kinds = [
        StreamingEncoder(model, StreamingParameters(budget_mb=budget))(volume).report.store
        for budget in (1, 100)
    ]
    assert kinds == ["disk", "device"]


@pytest.mark.parametrize(
    ("volume", "masks", "found"),
    [
        (image(1, 8, 8, 9), {}, r"shape \(1, 8, 8, 9\)"),
        (image(2, 8, 8, 8), {}, r"shape \(2, 8, 8, 8\)"),
        (image(1, 8, 8, 8), {"valid": np.zeros((2, 2, 2), bool)}, "no patch with data"),
        (image(1, 8, 8, 8), {"valid": np.ones((2, 2, 3), bool)}, "valid.*shape"),
        (image(1, 8, 8, 8), {"valid": np.ones((2, 2, 2))}, "valid.*float64"),
    ],
)
def test_input_that_does_not_fit_is_refused(volume, masks, found):
    with pytest.raises(BadInputError, match=found):
        StreamingEncoder(model_of())(volume, **masks)
