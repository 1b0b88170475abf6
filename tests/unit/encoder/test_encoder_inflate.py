"""From 2D to 3D: against least squares, against exact resizing, and against a plain 2D transformer."""

import foreign_files
import numpy as np
import plain_vit as plain
import pytest
import torch
from plain_vit import volumes
from torch.nn import functional

from spatialdino_core.encoder.conversion import convert
from spatialdino_core.encoder.inflate import (
    inflate_patch_embedding,
    inflate_positions,
    inflate_rotations,
    resize_matrix,
    resize_patch,
)
from spatialdino_core.encoder.layouts import read_foreign
from spatialdino_core.encoder.parameters import ImportParameters

MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]


@pytest.mark.parametrize(("old", "new"), [(14, 8), (16, 8), (4, 8), (8, 8), (5, 7)])
def test_resizing_one_axis_is_the_resizing_of_images(old, new):
    image = volumes(1, 1, old, old)
    truth = functional.interpolate(image, (new, new), mode="bilinear", antialias=True)[0, 0]
    matrix = resize_matrix(old, new)
    torch.testing.assert_close(matrix @ image[0, 0] @ matrix.T, truth, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(matrix.sum(1), torch.ones(new, dtype=torch.float64))


@pytest.mark.parametrize(("old", "new"), [(14, 8), (16, 8)])
def test_smaller_patches_have_the_least_squares_weights(old, new):
    """Over white patches; unit impulses have the same second moments."""
    weight = volumes(3, old, old)
    impulses = torch.eye(old**2, dtype=torch.float64).reshape(-1, 1, old, old)
    resized = functional.interpolate(impulses, (new, new), mode="bilinear", antialias=True).flatten(1)
    truth = torch.linalg.lstsq(resized, weight.reshape(3, -1).T).solution.T.reshape(3, new, new)
    torch.testing.assert_close(resize_patch(weight, new), truth, rtol=1e-8, atol=1e-10)


def test_larger_patches_embed_resized_patches_exactly():
    weight, patches = volumes(3, 4, 4), volumes(10, 1, 4, 4, seed=1)
    resized = functional.interpolate(patches, (8, 8), mode="bilinear", antialias=True)
    found = torch.einsum("nyx,dyx->nd", resized[:, 0], resize_patch(weight, 8))
    torch.testing.assert_close(found, torch.einsum("nyx,dyx->nd", patches[:, 0], weight))


def test_grey_volume_is_embedded_like_the_normalised_colour_image():
    weight, bias, slices = volumes(5, 3, 8, 8) - 0.5, volumes(5), volumes(4, 8, 8, seed=2)
    new, offset = inflate_patch_embedding(weight, bias, 8, MEAN.flatten().tolist(), STD.flatten().tolist())
    assert new.shape == (5, 1, 8, 8, 8)
    images = (slices[:, None].expand(-1, 3, -1, -1) - MEAN) / STD
    truth = torch.einsum("ncyx,dcyx->nd", images, weight) + bias
    constant = slices[:, None].expand(-1, 8, -1, -1)
    torch.testing.assert_close(torch.einsum("nzyx,dzyx->nd", constant, new[:, 0]) + offset, truth)
    # A volume that changes along z is embedded as the mean of its slices.
    volume = slices.repeat(2, 1, 1)
    torch.testing.assert_close(torch.einsum("zyx,dzyx->d", volume, new[:, 0]) + offset, truth.mean(0))


def test_positions_are_the_same_at_every_z():
    positions = volumes(9, 4)
    table = inflate_positions(positions, (5, 3, 3))
    for z in range(5):
        assert torch.equal(table[0, :, z].reshape(4, 9).T, positions)
    ramp = torch.arange(8.0).repeat(8, 1).reshape(64, 1)  # rises along x
    finer = inflate_positions(ramp, (2, 8, 16))[0, 0, 1]
    places = (np.arange(16) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(finer[:, 4:-4], np.broadcast_to(places[4:-4], (8, 8)), atol=0.05)


def image_tokens(state, image, heads, *, eps, angles=None):
    """Tokens (1, T, D) of a plain 2D encoder for an image (3, Y, X) in [0, 1], before the final norm."""
    state = {name: weight.double() for name, weight in state.items()}
    patches = plain.embedded(state, ((image - MEAN) / STD)[None], state["patch_embed.proj.weight"].shape[-1])
    token = state["cls_token"]
    if "pos_embed" in state:
        token, patches = token + state["pos_embed"][:, :1], patches + state["pos_embed"][:, 1:]
    registers = state.get("register_tokens", state.get("storage_tokens", token[:, :0]))
    for name in [name for name in state if name.endswith("bias_mask")]:
        state[name.removesuffix("_mask")] = state[name.removesuffix("_mask")] * state.pop(name)
    x = torch.cat([token, registers, patches], 1)
    return state, x, plain.blocks(state, x, heads, eps=eps, angles=angles)[-1]


def dinov3_angles(state, grid, heads, leading):
    """Places of patch centres from -1 to 1, times 2 pi over the period: first of y, then of x."""
    periods = state["rope_embed.periods"].double()
    rows = []
    for y, x in np.ndindex(*grid):
        places = [2 * (i + 0.5) / n - 1 for i, n in zip((y, x), grid, strict=True)]
        rows.append(torch.cat([2 * torch.pi * place / periods for place in places]))
    return torch.cat([torch.zeros(leading, 2 * len(periods), dtype=torch.float64), torch.stack(rows)])


def imported(state, **options):
    model, _, _ = convert(read_foreign(state, "test"), ImportParameters(voxel_um=0.1, **options))
    return model.double().requires_grad_(False)


def compare(model, image, tokens, truth_state, eps, patch):
    """The 3D encoder on the grey slice, repeated once along z, against the 2D tokens."""
    output = model(image[0].expand(patch, -1, -1)[None, None], depths=(model.architecture.depth - 1,))
    torch.testing.assert_close(output.intermediate[0], tokens, rtol=1e-4, atol=1e-4)
    truth = plain.layer_norm(truth_state, "norm", tokens, eps)
    torch.testing.assert_close(output.class_token, truth[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.patch_tokens, truth[:, model.first_patch :], rtol=1e-4, atol=1e-4)


def grey(*shape):
    return volumes(*shape).expand(3, -1, -1)


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_on_a_slice(registers):
    state = foreign_files.dinov2(patch=8, side=3, registers=registers)
    image = grey(24, 24)
    truth_state, _, tokens = image_tokens(state, image, 2, eps=1e-6)
    model = imported(state, heads=2, field_of_view_voxels=24)
    assert model.architecture.registers == registers
    compare(model, image, tokens, truth_state, 1e-6, 8)


@pytest.mark.parametrize("layout", ["official", "hub"])
@pytest.mark.parametrize("feed_forward", ["mlp", "separate swiglu"])
def test_dinov3_on_a_slice(layout, feed_forward):
    state = foreign_files.dinov3(width=128, heads=2, patch=8, feed_forward=feed_forward)
    image = grey(24, 24)
    angles = dinov3_angles(state, (3, 3), 2, leading=5)
    joined = dict(state)
    if feed_forward != "mlp":
        for i, kind in np.ndindex(2, 2):
            kind, name = ("weight", "bias")[kind], f"blocks.{i}.mlp."
            parts = [joined.pop(f"{name}{part}.{kind}") for part in ("w1", "w2")]
            joined[f"{name}w12.{kind}"] = torch.cat(parts)
    truth_state, _, tokens = image_tokens(joined, image, 2, eps=1e-5, angles=angles)
    model = imported(foreign_files.hub(state) if layout == "hub" else state, field_of_view_voxels=24)
    assert (model.architecture.heads, model.architecture.norm_eps) == (2, 1e-5)
    compare(model, image, tokens, truth_state, 1e-5, 8)
    other = imported(state, positions="none")
    assert (
        other(volumes(1, 1, 8, 24, 24)).patch_tokens - model(volumes(1, 1, 8, 24, 24)).patch_tokens
    ).abs().max() > 0.1


def test_deeper_volume_weighs_columns_of_patches():
    """k equal patches above each other are one patch whose scores have + log k."""
    state = foreign_files.dinov2(patch=8, side=2)
    image = grey(16, 16)
    truth_state, x, _ = image_tokens(state, image, 2, eps=1e-6)
    log_weights = torch.log(torch.tensor([1, 3, 3, 3, 3], dtype=torch.float64))
    tokens = plain.blocks(truth_state, x, 2, log_weights=log_weights)[-1]
    model = imported(state, heads=2, field_of_view_voxels=16)
    output = model(image[0].expand(24, -1, -1)[None, None], depths=(1,))
    found = output.intermediate[0]
    torch.testing.assert_close(found[:, :1], tokens[:, :1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        found[:, 1:].unflatten(1, (3, 4)), tokens[:, None, 1:].expand(-1, 3, -1, -1), rtol=1e-4, atol=1e-4
    )


def test_patches_of_another_size_on_a_slice():
    """Patches that grow from 4 to 8 voxels embed an image, each patch of which was enlarged, exactly."""
    state = foreign_files.dinov2(patch=4, side=3)
    image = grey(12, 12)
    truth_state, _, tokens = image_tokens(state, image, 2, eps=1e-6)
    patches = image[0].unfold(0, 4, 4).unfold(1, 4, 4).reshape(9, 1, 4, 4)
    larger = functional.interpolate(patches, (8, 8), mode="bilinear", antialias=True).reshape(3, 3, 8, 8)
    enlarged = larger.permute(0, 2, 1, 3).reshape(24, 24).expand(3, -1, -1)
    compare(imported(state, heads=2, field_of_view_voxels=24), enlarged, tokens, truth_state, 1e-6, 8)


def test_rotations_do_not_change_along_z_and_keep_their_length_on_other_grids():
    periods = torch.tensor([1.0, 4.0])
    found = inflate_rotations(periods, (7, 7, 14))
    expected = [[0, 0, 0, 0], [4 * np.pi / 7, np.pi / 7, 0, 0], [0, 0, 2 * np.pi / 7, np.pi / 14]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
