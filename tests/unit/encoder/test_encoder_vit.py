"""The transformer against a plain one, and against laws: permutation, merged duplicates, stochastic depth."""

import math
from dataclasses import replace

import plain_vit as plain
import pytest
import torch
from plain_vit import shaken, volumes
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from spatialdino_core.encoder.parameters import PRESETS, EncoderParameters
from spatialdino_core.encoder.vit import Block, build_encoder, draw_branch_factors, empty_encoder
from spatialdino_core.errors import BadInputError

TINY = EncoderParameters(
    embed_dim=24, depth=3, heads=3, patch_voxels=4, layer_scale=0.7, registers=2, drop_path=0.0
)
VARIANTS = [
    replace(TINY, positions=positions, feed_forward=feed_forward, position_grid=(2, 3, 2))
    for positions in ("none", "sincos", "learned", "rope")
    for feed_forward in ("mlp", "swiglu")
]
ids = [f"{variant.positions}-{variant.feed_forward}" for variant in VARIANTS]


def angles_of(model, grid):
    """Angles (T, d / 2) by definition: patches from the centre times frequency; none for the leading."""
    patches = plain.centred(grid) @ model.positions.frequencies.double()
    return torch.cat([patches.new_zeros(model.first_patch, patches.shape[1]), patches])


@pytest.mark.parametrize("parameters", VARIANTS, ids=ids)
def test_forward_equals_plain_transformer(parameters):
    model, volume = shaken(replace(parameters, channels=2)), volumes(2, 2, 8, 12, 16)
    state, grid = model.state_dict(), (2, 3, 4)
    patches = plain.embedded(state, volume, 4)
    if parameters.positions in ("learned", "sincos"):
        arguments = (grid,) if parameters.positions == "learned" else (grid, volume.device)
        patches = patches + model.positions(*arguments)  # see test_encoder_positions.py
    leading = torch.cat([model.cls_token, model.register_tokens], 1).expand(2, -1, -1)
    angles = angles_of(model, grid) if parameters.positions == "rope" else None
    states = plain.blocks(state, torch.cat([leading, patches], 1), 3, angles=angles)
    truth = plain.layer_norm(state, "norm", states[-1])
    output = model(volume, depths=(0, 2))
    assert output.grid == grid
    torch.testing.assert_close(output.class_token, truth[:, 0], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(output.patch_tokens, truth[:, 3:], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(list(output.intermediate), [states[1], states[3]], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("depths", [(3,), (-1,), (1, 0), (1, 1)])
def test_depths_must_be_blocks_in_order(depths):
    with pytest.raises(ValueError, match="do not ascend within the 3 blocks"):
        shaken(TINY)(volumes(1, 1, 4, 4, 4), depths=depths)


def true_class_attention(model, volume, angles=None):
    """softmax(Q K^T / sqrt(d)) of the last block, class token's row, renormalised over the patches."""
    state = model.state_dict()
    before_last = plain.blocks(state, model.embed(volume)[0], 3, angles=angles)[-2]
    normed = plain.layer_norm(state, "blocks.2.norm1", before_last)
    full = plain.attention(state, "blocks.2.attn", normed, 3, angles)[1][:, :, 0, model.first_patch :]
    return full / full.sum(-1, keepdim=True)


@pytest.mark.parametrize("positions", ["none", "rope"])
def test_class_attention_is_softmax_over_patches(positions):
    model, volume = shaken(replace(TINY, positions=positions)), volumes(2, 1, 8, 8, 12)
    found = model(volume, class_attention=True).class_attention
    truth = true_class_attention(model, volume, angles_of(model, (2, 2, 3)) if positions == "rope" else None)
    torch.testing.assert_close(found, truth, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
@pytest.mark.parametrize(("autocast", "tolerance"), [(False, 1e-5), (True, 0.05)])
def test_class_attention_is_the_same_whatever_mixes_the_values(backend, autocast, tolerance):
    model, volume = shaken(TINY, by=0.05), volumes(2, 1, 16, 16, 16)
    truth = true_class_attention(model, volume)
    with sdpa_kernel(backend), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = model.float()(volume.float(), class_attention=True).class_attention
    assert found.dtype == torch.float32
    assert (found / truth - 1).abs().max() < tolerance
    assert truth.max() > 1.5 / truth.shape[-1]  # something to tell apart
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3), rtol=1e-6, atol=1e-6)


def as_patches(volume):
    """(1, 1, 8, 8, 8) to (8, 4, 4, 4)."""
    return volume.reshape(2, 4, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(8, 4, 4, 4)


def as_volume(patches):
    return patches.reshape(2, 2, 2, 4, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(1, 1, 8, 8, 8)


@pytest.mark.parametrize("positions", ["none", "sincos", "learned", "rope"])
def test_permuting_patches_permutes_tokens_only_without_positions(positions):
    model, volume = shaken(replace(TINY, positions=positions)), volumes(1, 1, 8, 8, 8)
    order = torch.tensor([5, 2, 7, 0, 3, 1, 6, 4])
    straight, permuted = model(volume), model(as_volume(as_patches(volume)[order]))
    difference = (permuted.patch_tokens - straight.patch_tokens[:, order]).abs().max()
    class_difference = (permuted.class_token - straight.class_token).abs().max()
    if positions == "none":
        assert max(difference, class_difference) < 1e-12
    else:
        assert min(difference, class_difference) > 1e-3


@pytest.mark.parametrize("feed_forward", ["mlp", "swiglu"])
def test_merging_equal_tokens_with_the_log_of_their_number_is_exact(feed_forward):
    model = shaken(replace(TINY, feed_forward=feed_forward))
    kinds, counts = volumes(3, 4, 4, 4), torch.tensor([5, 2, 1])
    patches = kinds.repeat_interleave(counts, 0)[torch.tensor([3, 0, 7, 5, 1, 6, 2, 4])]
    output = model(as_volume(patches))
    state = model.state_dict()
    merged = torch.cat(
        [model.cls_token[0], model.register_tokens[0], plain.embedded(state, kinds[:, None], 4)[:, 0]]
    )
    log_weights = torch.cat([torch.zeros(3).double(), counts.double().log()])
    last = plain.blocks(state, merged[None], 3, log_weights=log_weights)[-1]
    truth = plain.layer_norm(state, "norm", last)
    torch.testing.assert_close(output.class_token, truth[:, 0], rtol=1e-10, atol=1e-10)
    which = [0, 0, 2, 1, 0, 1, 0, 0]  # of the order above
    torch.testing.assert_close(output.patch_tokens, truth[:, 3:][:, which], rtol=1e-10, atol=1e-10)


def test_masked_patches_do_not_matter_and_unmasked_do():
    model, volume = shaken(TINY), volumes(2, 1, 8, 8, 8)
    masks = torch.zeros(2, 8, dtype=torch.bool)
    masks[0, 5] = True  # raster order: z=1, y=0, x=1
    other = volume.clone()
    other[0, :, 4:, :4, 4:] = 0.123
    tokens, _ = model.embed(volume, masks)
    torch.testing.assert_close(tokens[0, 3 + 5], model.mask_token[0])
    torch.testing.assert_close(model(volume, masks).patch_tokens, model(other, masks).patch_tokens)
    assert (model(volume).patch_tokens - model(other).patch_tokens)[0].abs().max() > 1e-3


def test_zero_register_only_dilutes_attention():
    model = shaken(replace(TINY, test_time_registers=1))
    volume = volumes(1, 1, 8, 8, 8)
    tokens, _ = model.embed(volume)
    assert tokens.shape[1] == 1 + 2 + 1 + 8
    assert (tokens[:, 3] == 0).all()
    plain_model = shaken(TINY)
    plain_model.load_state_dict(model.state_dict())  # nothing trained: same tensors
    assert model(volume).patch_tokens.shape == plain_model(volume).patch_tokens.shape
    assert not torch.allclose(model(volume).class_token, plain_model(volume).class_token)


def test_branch_factors_skip_branches_of_samples():
    model, volume = shaken(TINY), volumes(3, 1, 8, 8, 8)
    factors = torch.ones(3, 2, 3, dtype=torch.float64)
    factors[1, 0, 2] = factors[0, 1, 1] = 0.0
    factors[2, 1, 0] = 4.0
    truth = plain.blocks(model.state_dict(), model.embed(volume)[0], 3, factors=factors)
    found = model(volume, depths=(0, 1, 2), branch_factors=factors)
    torch.testing.assert_close(list(found.intermediate), truth[1:], rtol=1e-9, atol=1e-9)
    last = model(volume[2:], depths=(2,), branch_factors=factors[..., 2:]).intermediate[0]
    torch.testing.assert_close(last, truth[-1][2:], rtol=1e-9, atol=1e-9)


def test_drawn_branch_factors_follow_their_generator_and_keep_the_mean():
    parameters = replace(TINY, drop_path=0.3)
    factors = draw_branch_factors(parameters, 5000, torch.Generator().manual_seed(5))
    assert factors.shape == (3, 2, 5000)
    assert torch.equal(factors, draw_branch_factors(parameters, 5000, torch.Generator().manual_seed(5)))
    assert not torch.equal(factors, draw_branch_factors(parameters, 5000, torch.Generator().manual_seed(6)))
    torch.testing.assert_close(factors.unique(), torch.tensor([0, 1 / 0.7]))
    kept = (factors > 0).double()
    assert ((kept.mean(-1) - 0.7).abs() < 5 * math.sqrt(0.3 * 0.7 / 5000)).all()
    assert torch.corrcoef(kept.flatten(0, 1)).fill_diagonal_(0).abs().max() < 5 / math.sqrt(5000)
    assert (draw_branch_factors(TINY, 4, torch.Generator()) == 1).all()


@pytest.mark.parametrize("positions", ["none", "rope"])
def test_checkpointing_changes_no_gradient(positions):
    parameters = replace(TINY, positions=positions, drop_path=0.4, feed_forward="swiglu")
    factors = draw_branch_factors(parameters, 2, torch.Generator().manual_seed(0))
    gradients = []
    for checkpointing in (False, True):
        model = shaken(parameters).requires_grad_(True)
        output = model(
            volumes(2, 1, 8, 8, 8), depths=(1,), branch_factors=factors, checkpointing=checkpointing
        )
        (output.class_token.square().sum() + output.intermediate[0].square().sum()).backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    assert gradients[0].pop("mask_token") is gradients[1].pop("mask_token") is None
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-12)


def test_checkpointing_keeps_no_activations_of_blocks():
    """What the graph keeps grows with depth by one tensor of tokens per block, not by all activations."""

    def kept(depth, checkpointing):
        model = build_encoder(replace(TINY, depth=depth), torch.Generator().manual_seed(0))
        sizes = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.setdefault(tensor.data_ptr(), tensor.numel()) and tensor,
            lambda tensor: tensor,
        ):
            model(volumes(2, 1, 16, 16, 16).float(), checkpointing=checkpointing)
        return sum(sizes.values())

    tokens = 2 * (64 + 3) * 24
    assert kept(3, True) - kept(2, True) < 2 * tokens
    assert kept(3, False) - kept(2, False) > 8 * tokens


def test_split_of_runs_of_tokens_gives_whole_attention():
    model = shaken(replace(TINY, positions="rope"))
    x, grid = model.embed(volumes(2, 1, 8, 8, 12))
    attn, rotation = model.blocks[0].attn, model.rotation(grid)
    assert isinstance(model.blocks[0], Block)
    runs = [slice(0, 2), slice(2, 9), slice(9, 10), slice(10, None)]
    parts = [attn.split(x[:, run], rotation[:, run]) for run in runs]
    key, value = (torch.cat([part[i] for part in parts], 2) for i in (1, 2))
    mixed = [attn.join(functional.scaled_dot_product_attention(part[0], key, value)) for part in parts]
    torch.testing.assert_close(torch.cat(mixed, 1), attn(x, rotation), rtol=1e-10, atol=1e-10)


def test_rotation_is_never_forgotten():
    model = shaken(replace(TINY, positions="rope"))
    tokens, grid = model.embed(volumes(1, 1, 8, 8, 8))
    with pytest.raises(ValueError, match="rotation is needed"):
        model.blocks[0](tokens)
    with pytest.raises(ValueError, match="only then"):
        shaken(TINY).blocks[0](tokens, model.rotation(grid))


@pytest.mark.parametrize("parameters", VARIANTS, ids=ids)
def test_fresh_weights_are_complete_and_depend_on_the_generator_alone(parameters):
    state = torch.random.get_rng_state()
    a, b, c = (
        build_encoder(parameters, torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.isfinite(weight).all() for weight in a.values())
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["cls_token"], c["cls_token"])
    assert (a["blocks.0.ls1.gamma"] == torch.tensor(0.7)).all()


@pytest.mark.parametrize("shape", [(1, 1, 8, 8, 9), (1, 2, 8, 8, 8), (1, 8, 8, 8), (1, 1, 0, 8, 8)])
def test_volume_that_does_not_fit_is_refused(shape):
    with pytest.raises(BadInputError, match="multiples of 4"):
        shaken(TINY)(volumes(*shape))


def test_compiles_whole_with_dynamic_shapes():
    parameters = replace(TINY, depth=2, positions="rope", feed_forward="swiglu")
    model = shaken(parameters).float()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    for shape in [(2, 1, 8, 12, 16), (3, 1, 12, 8, 20)]:
        volume = volumes(*shape).float()
        factors = torch.full((2, 2, len(volume)), 0.5)
        options = dict(class_attention=True, depths=(0, 1), branch_factors=factors)
        found, truth = compiled(volume, **options), model(volume, **options)
        torch.testing.assert_close(
            [found.patch_tokens, found.class_attention, *found.intermediate],
            [truth.patch_tokens, truth.class_attention, *truth.intermediate],
            rtol=1e-4,
            atol=1e-4,
        )


def test_named_sizes_set_widths():
    small = EncoderParameters(size="small")
    assert (small.embed_dim, small.depth, small.heads, small.patch_voxels) == (384, 12, 6, 8)
    assert all(EncoderParameters(size=name).head_dim == 64 for name in PRESETS)
    assert EncoderParameters(size="base", depth=12).embed_dim == 768
    assert replace(small, drop_path=0.1).mlp_dim == 1536
    assert replace(small, feed_forward="swiglu").mlp_dim == 1024
    assert (
        EncoderParameters(
            embed_dim=20, heads=2, feed_forward="swiglu", layer_scale=1.0, drop_path=0.0
        ).mlp_dim
        == 56
    )  # 80 * 2 / 3 = 53.3
    assert EncoderParameters() == small
    assert EncoderParameters(embed_dim=96, heads=3, layer_scale=1.0, drop_path=0.0).size == "custom"
    with pytest.raises(ValueError, match="small has depth 12, and 4 is given"):
        EncoderParameters(size="small", depth=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(embed_dim=96, heads=5), "must divide"),
        (dict(embed_dim=12, heads=3, positions="rope"), "features per head"),
        (dict(embed_dim=4, heads=2, positions="sincos"), "embed_dim of at least 6"),
        (dict(size="giant"), "custom"),
        (dict(positions="relative"), "rope"),
    ],
)
def test_impossible_architectures_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EncoderParameters(**options)


def test_small_encoder_has_the_parameters_of_vit_small():
    """Counted from the shapes of the layers: 21.5 million, for one channel and patches of 8."""
    d = 384
    block = 2 * 2 * d + (3 * d * d + 3 * d) + (d * d + d) + 2 * d + (4 * d * d + 4 * d) + (4 * d * d + d)
    total = 12 * block + 2 * d + 2 * d + (512 * d + d)
    model = empty_encoder(EncoderParameters(size="small"))
    assert sum(weight.numel() for weight in model.parameters()) == total
    assert round(total / 1e6, 1) == 21.5
