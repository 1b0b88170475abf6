"""Singular-value layers: equal to the original at first, explicit SVD afterwards, exact when folded."""

import numpy as np
import pytest
import torch
from sinder_plant import GATED, SMALL, crops, healthy
from torch import nn

from spatialdino_core.sinder.reparameterise import SingularLinear, fold, reparameterise

VOLUME = torch.from_numpy(np.stack(crops(2)))


def moved(seed=0, parameters=SMALL):
    """Reparameterised encoder in float64 whose singular values have been changed at random."""
    changed = reparameterise(healthy(parameters).double())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in changed.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return changed


@pytest.mark.parametrize("parameters", [SMALL, GATED])
def test_unchanged_singular_values_give_the_original_bit_for_bit(parameters):
    encoder = healthy(parameters)
    changed = reparameterise(encoder)
    assert torch.equal(changed(VOLUME).patch_tokens, encoder(VOLUME).patch_tokens)
    plain, original = fold(changed).state_dict(), encoder.state_dict()
    assert plain.keys() == original.keys()
    assert all(torch.equal(plain[name], original[name]) for name in original)


@pytest.mark.parametrize(("parameters", "fed"), [(SMALL, ("fc1", "fc2")), (GATED, ("w12", "w3"))])
def test_only_singular_values_are_trained(parameters, fed):
    changed = reparameterise(healthy(parameters))
    trained = {name: weight.shape for name, weight in changed.named_parameters() if weight.requires_grad}
    layers = ("attn.qkv", "attn.proj", *(f"mlp.{name}" for name in fed))
    assert trained == {f"blocks.{i}.{layer}.eps": (32,) for i in range(SMALL.depth) for layer in layers}


def test_layer_is_u_diag_s_plus_eps_v():
    linear = nn.Linear(6, 9).double()
    layer = SingularLinear(linear, first_row=4)
    with torch.no_grad():
        layer.eps += torch.linspace(-0.5, 0.5, 5).double()
    weight = linear.weight.detach().numpy().copy()
    left, values, right = np.linalg.svd(weight[4:], full_matrices=False)
    weight[4:] = left @ np.diag(values + np.linspace(-0.5, 0.5, 5)) @ right
    x = torch.randn(3, 6).double()
    expected = x.numpy() @ weight.T + linear.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(layer.fold().weight.detach().numpy(), weight, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("parameters", [SMALL, GATED])
def test_folding_changes_nothing_but_the_form(parameters):
    changed = moved(parameters=parameters)
    plain = fold(changed)
    assert not any(isinstance(module, SingularLinear) for module in plain.modules())
    assert all(weight.requires_grad for weight in plain.parameters())
    volume = VOLUME.double()
    torch.testing.assert_close(plain(volume).patch_tokens, changed(volume).patch_tokens)
    before = healthy(parameters).double()
    assert (plain(volume).patch_tokens - before(volume).patch_tokens).abs().max() > 1e-3


def test_query_and_key_stay_as_they_are():
    plain, original = fold(moved()), healthy().double()
    for new, old in zip(plain.blocks, original.blocks, strict=True):
        width = SMALL.embed_dim
        assert torch.equal(new.attn.qkv.weight[: 2 * width], old.attn.qkv.weight[: 2 * width])
        assert not torch.equal(new.attn.qkv.weight[2 * width :], old.attn.qkv.weight[2 * width :])
