"""The transformer against its formulas: explicit attention, an explicit block, and NoPE equivariance."""

import math

import pytest
import torch
from torch.nn import functional

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import VisionTransformer3D, build_encoder
from spatialdino_core.errors import BadInputError

TINY = EncoderParameters(embed_dim=24, depth=3, heads=3, patch_voxels=4, layer_scale=0.7, registers=2)


def encoder(parameters: EncoderParameters = TINY, seed: int = 0) -> VisionTransformer3D:
    built = build_encoder(parameters, torch.Generator().manual_seed(seed)).double()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():  # Fresh biases are zero and norms one, which would hide wrong terms.
        for weight in built.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return built


def volumes(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def explicit_attention(attention, x):
    """softmax(Q K^T / sqrt(d)) V, head by head."""
    width = x.shape[-1]
    side = width // attention.heads
    qkv = x @ attention.qkv.weight.T + attention.qkv.bias
    heads, probabilities = [], []
    for head in range(attention.heads):
        q, k, v = (qkv[..., part * width + head * side :][..., :side] for part in range(3))
        probability = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(side), -1)
        probabilities.append(probability)
        heads.append(probability @ v)
    out = torch.cat(heads, -1) @ attention.proj.weight.T + attention.proj.bias
    return out, torch.stack(probabilities, 1)


def explicit_blocks(model, x):
    """Tokens after every block, from the definition."""
    states = [x]
    for block in model.blocks:
        attended, _ = explicit_attention(
            block.attn, functional.layer_norm(x, x.shape[-1:], block.norm1.weight, block.norm1.bias, 1e-6)
        )
        x = x + block.ls1.gamma * attended
        normed = functional.layer_norm(x, x.shape[-1:], block.norm2.weight, block.norm2.bias, 1e-6)
        hidden = normed @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + block.ls2.gamma * (hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias)
        states.append(x)
    return states


def test_forward_equals_explicit_transformer():
    model, volume = encoder(), volumes(2, 1, 8, 12, 16)
    patches = volume.unfold(2, 4, 4).unfold(3, 4, 4).unfold(4, 4, 4)
    rows = patches.reshape(2, 2 * 3 * 4, 64)
    embedded = rows @ model.patch_embed.proj.weight.reshape(24, 64).T + model.patch_embed.proj.bias
    leading = torch.cat([model.cls_token, model.register_tokens], 1).expand(2, -1, -1)
    states = explicit_blocks(model, torch.cat([leading, embedded], 1))
    truth = functional.layer_norm(states[-1], (24,), model.norm.weight, model.norm.bias, 1e-6)
    output = model(volume)
    assert output.grid == (2, 3, 4)
    torch.testing.assert_close(output.class_token, truth[:, 0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output.patch_tokens, truth[:, 3:], rtol=1e-9, atol=1e-9)


def test_class_attention_is_softmax_over_patches():
    model, volume = encoder(), volumes(2, 1, 8, 8, 12)
    attention = model(volume, class_attention=True).class_attention
    before_last = explicit_blocks(model, model.embed(volume)[0])[-2]
    last = model.blocks[-1]
    normed = functional.layer_norm(before_last, (24,), last.norm1.weight, last.norm1.bias, 1e-6)
    full = explicit_attention(last.attn, normed)[1][:, :, 0, 3:]
    torch.testing.assert_close(attention, full / full.sum(-1, keepdim=True), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, 3, dtype=torch.float64))


def test_permuting_patches_permutes_tokens():
    model, volume = encoder(), volumes(1, 1, 8, 8, 8)
    blocks = volume.reshape(2, 4, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(8, 4, 4, 4)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    shuffled = blocks[order].reshape(2, 2, 2, 4, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(1, 1, 8, 8, 8)
    straight, permuted = model(volume), model(shuffled)
    torch.testing.assert_close(permuted.patch_tokens, straight.patch_tokens[:, order])
    torch.testing.assert_close(permuted.class_token, straight.class_token)


def test_masked_patches_do_not_matter_and_unmasked_do():
    model, volume = encoder(), volumes(2, 1, 8, 8, 8)
    masks = torch.zeros(2, 8, dtype=torch.bool)
    masks[0, 5] = True  # raster order: z=1, y=0, x=1
    other = volume.clone()
    other[0, :, 4:, :4, 4:] = 0.123
    tokens, _ = model.embed(volume, masks)
    torch.testing.assert_close(tokens[0, 3 + 5], model.mask_token[0])
    torch.testing.assert_close(model(volume, masks).patch_tokens, model(other, masks).patch_tokens)
    assert (model(volume).patch_tokens - model(other).patch_tokens)[0].abs().max() > 1e-3


def test_zero_register_only_dilutes_attention():
    with_zero = EncoderParameters(**{**TINY.__dict__, "test_time_registers": 1})
    model = encoder(with_zero)
    tokens, _ = model.embed(volumes(1, 1, 8, 8, 8))
    assert tokens.shape[1] == 1 + 2 + 1 + 8
    assert (tokens[:, 3] == 0).all()
    plain = encoder()
    plain.load_state_dict(model.state_dict())  # nothing trained: same tensors
    volume = volumes(1, 1, 8, 8, 8)
    assert model(volume).patch_tokens.shape == plain(volume).patch_tokens.shape
    assert not torch.allclose(model(volume).class_token, plain(volume).class_token)


def test_stochastic_depth_follows_its_generator_and_keeps_the_mean():
    model = encoder(EncoderParameters(**{**TINY.__dict__, "drop_path": 0.3, "depth": 1}))
    volume = volumes(1, 1, 4, 4, 4).expand(4000, -1, -1, -1, -1)
    block = model.blocks[0]
    x = model.embed(volume)[0].detach()
    with torch.no_grad():
        first = block(x, torch.Generator().manual_seed(5))
        assert torch.equal(first, block(x, torch.Generator().manual_seed(5)))
        assert not torch.equal(first, block(x, torch.Generator().manual_seed(6)))
        branch = block.ls1(block.attn(block.norm1(x[:1])))
        dropped = block._drop(branch.expand(4000, -1, -1), torch.Generator().manual_seed(5))
    kept = (dropped != 0).any(-1).any(-1).double().mean()
    assert abs(kept - 0.7) < 4 * math.sqrt(0.3 * 0.7 / 4000)
    torch.testing.assert_close(dropped.mean(0, keepdim=True), branch * kept / 0.7)


def test_fresh_weights_depend_on_the_generator_alone():
    state = torch.random.get_rng_state()
    a, b, c = (build_encoder(TINY, torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["cls_token"], c["cls_token"])
    assert all(torch.isfinite(weight).all() for weight in a.values())
    assert (a["blocks.0.ls1.gamma"] == torch.tensor(0.7)).all()


@pytest.mark.parametrize("shape", [(1, 1, 8, 8, 9), (1, 2, 8, 8, 8), (1, 8, 8, 8), (1, 1, 0, 8, 8)])
def test_volume_that_does_not_fit_is_refused(shape):
    with pytest.raises(BadInputError, match="multiples of 4"):
        encoder()(volumes(*shape))


def test_heads_must_divide_width():
    with pytest.raises(ValueError, match="must divide"):
        EncoderParameters(embed_dim=96, heads=5)
