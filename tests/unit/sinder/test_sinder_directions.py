"""Predicted defect directions against Monte Carlo, explicit matrices and a planted defect."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sinder_plant import GATED, PLANTED_BLOCK, SMALL, healthy, planted
from torch.nn import functional

from spatialdino_core.sinder.directions import (
    defect_directions,
    linearised_attention,
    linearised_feed_forward,
    linearised_gelu,
    linearised_swiglu,
)


def numpy_weights(module):
    return {name: weight.detach().double().numpy() for name, weight in module.named_parameters()}


def shaken(seed=0, parameters=SMALL):
    """Weights without zeros and ones that would hide wrong terms."""
    encoder = healthy(parameters)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return encoder


def test_stein_linearisation_is_the_least_squares_fit():
    block = shaken().blocks[0]
    z = torch.randn(200_000, SMALL.embed_dim, generator=torch.Generator().manual_seed(1)).double()
    linear, norm = block.mlp.fc1.double(), block.norm2.double()
    with torch.no_grad():
        hidden = functional.gelu(linear(norm.weight * z + norm.bias))
    fit = torch.linalg.lstsq(z, hidden - hidden.mean(0)).solution.T
    closed = linearised_gelu(linear, norm)
    assert (fit - closed).norm() / closed.norm() < 0.02


def test_swiglu_linearisation_is_the_least_squares_fit():
    block = shaken(parameters=GATED).blocks[0]
    z = torch.randn(200_000, GATED.embed_dim, generator=torch.Generator().manual_seed(1)).double()
    linear, norm = block.mlp.w12.double(), block.norm2.double()
    with torch.no_grad():
        gate, value = linear(norm.weight * z + norm.bias).chunk(2, 1)
        hidden = functional.silu(gate) * value
    fit = torch.linalg.lstsq(z, hidden - hidden.mean(0)).solution.T
    found = linearised_swiglu(linear, norm)
    assert (fit - found).norm() / found.norm() < 0.04  # a product of two has heavier tails than a GELU


@pytest.mark.parametrize("spread", [0.0, 0.5, 4.0, 15.0])
def test_swiglu_linearisation_equals_numerical_integration(spread):
    """One hidden unit of one input: the covariance of the output with z, integrated."""
    linear, norm = torch.nn.Linear(1, 2).double(), torch.nn.LayerNorm(1).double()
    with torch.no_grad():
        linear.weight[:] = torch.tensor([[spread], [-0.7]], dtype=torch.float64)
        linear.bias[:] = torch.tensor([0.6, 1.3], dtype=torch.float64)

    def integrand(z):
        gate, value = spread * z + 0.6, -0.7 * z + 1.3
        return gate / (1 + np.exp(-gate)) * value * z * stats.norm.pdf(z)

    truth, _ = integrate.quad(integrand, -10, 10, epsabs=1e-12, epsrel=1e-12, limit=500)
    assert linearised_swiglu(linear, norm).item() == pytest.approx(truth, rel=1e-9)


def test_linearised_block_matches_explicit_matrices():
    block = shaken().blocks[1]
    w, width = numpy_weights(block), SMALL.embed_dim
    centring = np.eye(width) - np.full((width, width), 1 / width)
    value = w["attn.qkv.weight"][2 * width :]
    attention = (
        np.eye(width)
        + np.diag(w["ls1.gamma"]) @ w["attn.proj.weight"] @ value @ np.diag(w["norm1.weight"]) @ centring
    )
    np.testing.assert_allclose(linearised_attention(block), attention, rtol=1e-9, atol=1e-12)
    hidden = linearised_gelu(block.mlp.fc1, block.norm2).numpy()
    mlp = np.eye(width) + np.diag(w["ls2.gamma"]) @ w["mlp.fc2.weight"] @ hidden @ centring
    np.testing.assert_allclose(linearised_feed_forward(block), mlp, rtol=1e-9, atol=1e-12)
    gated = shaken(parameters=GATED).blocks[1]
    w = numpy_weights(gated)
    hidden = linearised_swiglu(gated.mlp.w12, gated.norm2).numpy()
    swiglu = np.eye(width) + np.diag(w["ls2.gamma"]) @ w["mlp.w3.weight"] @ hidden @ centring
    np.testing.assert_allclose(linearised_feed_forward(gated), swiglu, rtol=1e-9, atol=1e-12)


def test_directions_are_leading_left_singular_vectors_of_the_product():
    encoder = shaken()
    product = np.eye(SMALL.embed_dim)
    for block, direction in zip(encoder.blocks, defect_directions(encoder), strict=True):
        product = linearised_feed_forward(block).numpy() @ linearised_attention(block).numpy() @ product
        leading = np.linalg.svd(product)[0][:, 0]
        assert abs(leading @ direction.numpy()) == pytest.approx(1, abs=1e-5)
        assert direction[direction.abs().argmax()] > 0


@pytest.mark.parametrize("parameters", [SMALL, GATED])
def test_planted_defect_is_found(parameters):
    encoder, u = planted(parameters=parameters)
    found = defect_directions(encoder)[PLANTED_BLOCK]
    assert torch.rad2deg(torch.acos((found @ u).abs().clamp(max=1))) < 5
    blind = defect_directions(healthy(parameters))[PLANTED_BLOCK]
    assert torch.rad2deg(torch.acos((blind @ u).abs())) > 30
