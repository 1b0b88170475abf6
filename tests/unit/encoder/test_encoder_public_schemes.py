"""Encoders as others publish them, file to file: the tokens of their formulas are the tokens of the import.

Everything on the side of the truth is numpy in float64, written from the formulas with the names of each
layout; nothing of ours is used there. Sizes are tiny, and every tensor is drawn at random.
"""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spatialdino_core.encoder.importers import import_weights, main
from spatialdino_core.encoder.inflate import axial_rotations
from spatialdino_core.encoder.parameters import ImportParameters
from spatialdino_core.encoder.weights import load_encoder
from spatialdino_core.errors import BadInputError

WIDTH, HEADS, DEPTH, PATCH, GRID = 36, 2, 2, 4, 3  # 18 features per head: 9 pairs, of which z and y have 3
HIDDEN, GATED = 4 * WIDTH, 8 * -(-2 * 4 * WIDTH // 3 // 8)
MEAN, STD = np.array([0.4, 0.45, 0.5]), np.array([0.2, 0.25, 0.3])
ERF = np.vectorize(math.erf)


def drawn(shapes, seed):
    rng = np.random.default_rng(seed)
    return {name: 0.4 * rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def linear(state, name, x):
    return x @ state[f"{name}.weight"].astype(float).T + state[f"{name}.bias"]


def norm(state, name, x):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def attended(q, k, v, angles=None):
    """Mixed values (T, D) of all heads; angles (T, pairs) turn feature p against feature p + pairs."""
    mixed = []
    for head in np.split(np.arange(WIDTH), HEADS):
        query, key = q[:, head], k[:, head]
        if angles is not None:
            query, key = turned(query, angles), turned(key, angles)
        score = np.exp(query @ key.T / math.sqrt(len(head)))
        mixed.append(score / score.sum(-1, keepdims=True) @ v[:, head])
    return np.concatenate(mixed, -1)


def turned(x, angles):
    first, second = np.split(x, 2, -1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, first * sin + second * cos], -1)


def gelu(x):
    return x * (1 + ERF(x / math.sqrt(2))) / 2


def gated(x):
    gate, value = np.split(x, 2, -1)
    return gate / (1 + np.exp(-gate)) * value


def embedded(weight, bias, image):
    """Patches (N, D) of an image or volume (C, …), in raster order."""
    axes, side = weight.ndim - 2, weight.shape[-1]
    rows = []
    for place in np.ndindex(*[n // side for n in image.shape[1:]]):
        cut = image[(slice(None), *(slice(i * side, (i + 1) * side) for i in place))]
        rows.append(np.tensordot(weight.astype(float), cut, axes + 1) + bias)
    return np.stack(rows)


# SpatialDINO, 3D: names as in its backbone.pth.


def spatialdino_shapes(feed_forward, *, registers=0, learned=False):
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "mask_token": (1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 1, PATCH, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    if registers:
        shapes["register_tokens"] = (1, registers, WIDTH)
    if learned:
        shapes["pos_embed"] = (1, 1 + GRID**3, WIDTH)
    for i in range(DEPTH):
        layers = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH)}
        layers |= (
            {"mlp.fc1": (HIDDEN, WIDTH), "mlp.fc2": (WIDTH, HIDDEN)}
            if feed_forward == "mlp"
            else {"mlp.w12": (2 * GATED, WIDTH), "mlp.w3": (WIDTH, GATED)}
        )
        for layer, shape in layers.items():
            shapes |= {f"blocks.{i}.{layer}.weight": shape, f"blocks.{i}.{layer}.bias": shape[:1]}
        for vector in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            shapes[f"blocks.{i}.{vector}"] = (WIDTH,)
    return shapes


def spatialdino_angles(base, leading):
    """Coordinates of patch centres from -1 to 1; 2 pi over the period base^(i / n); pairs: 3 z, 3 y, 3 x."""
    rows = [np.zeros(9)] * leading
    for place in np.ndindex(GRID, GRID, GRID):
        row = []
        for index in place:
            coordinate = (index + 0.5) / GRID * 2 - 1
            row += [2 * np.pi / base ** (i / 3) * coordinate for i in range(3)]
        rows.append(np.array(row))
    return np.stack(rows)


def spatialdino_tokens(state, volume, base=None):
    patches = embedded(state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], volume)
    x = np.concatenate([state["cls_token"][0].astype(float), patches])
    if "pos_embed" in state:
        x = x + state["pos_embed"][0]
    registers = state.get("register_tokens", np.zeros((1, 0, WIDTH)))[0]
    x = np.concatenate([x[:1], registers, x[1:]])
    angles = None if base is None else spatialdino_angles(base, 1 + len(registers))
    for i in range(DEPTH):
        block = f"blocks.{i}."
        q, k, v = np.split(linear(state, block + "attn.qkv", norm(state, block + "norm1", x)), 3, -1)
        x = x + state[block + "ls1.gamma"] * linear(state, block + "attn.proj", attended(q, k, v, angles))
        y = norm(state, block + "norm2", x)
        if block + "mlp.w12.weight" in state:
            y = linear(state, block + "mlp.w3", gated(linear(state, block + "mlp.w12", y)))
        else:
            y = linear(state, block + "mlp.fc2", gelu(linear(state, block + "mlp.fc1", y)))
        x = x + state[block + "ls2.gamma"] * y
    x = norm(state, "norm", x)
    return x[0], x[1 + len(registers) :]


# DINOv2 in the transformers library.


def transformers_shapes(feed_forward, *, registers=0):
    shapes = {
        "embeddings.cls_token": (1, 1, WIDTH),
        "embeddings.mask_token": (1, WIDTH),
        "embeddings.position_embeddings": (1, 1 + GRID**2, WIDTH),
        "embeddings.patch_embeddings.projection.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (WIDTH,),
        "layernorm.weight": (WIDTH,),
        "layernorm.bias": (WIDTH,),
    }
    if registers:
        shapes["embeddings.register_tokens"] = (1, registers, WIDTH)
    for i in range(DEPTH):
        layers = {f"attention.attention.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")}
        layers |= {"attention.output.dense": (WIDTH, WIDTH)}
        layers |= (
            {"mlp.fc1": (HIDDEN, WIDTH), "mlp.fc2": (WIDTH, HIDDEN)}
            if feed_forward == "mlp"
            else {"mlp.weights_in": (2 * GATED, WIDTH), "mlp.weights_out": (WIDTH, GATED)}
        )
        for layer, shape in layers.items():
            name = f"encoder.layer.{i}.{layer}"
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        for vector in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            shapes[f"encoder.layer.{i}.{vector}"] = (WIDTH,)
        for branch in (1, 2):
            shapes[f"encoder.layer.{i}.layer_scale{branch}.lambda1"] = (WIDTH,)
    return shapes


def transformers_tokens(state, image):
    name = "embeddings.patch_embeddings.projection"
    patches = embedded(state[f"{name}.weight"], state[f"{name}.bias"], image)
    x = np.concatenate([state["embeddings.cls_token"][0].astype(float), patches])
    x = x + state["embeddings.position_embeddings"][0]
    registers = state.get("embeddings.register_tokens", np.zeros((1, 0, WIDTH)))[0]
    x = np.concatenate([x[:1], registers, x[1:]])
    for i in range(DEPTH):
        layer = f"encoder.layer.{i}."
        y = norm(state, layer + "norm1", x)
        q, k, v = (linear(state, f"{layer}attention.attention.{n}", y) for n in ("query", "key", "value"))
        y = linear(state, layer + "attention.output.dense", attended(q, k, v))
        x = x + state[layer + "layer_scale1.lambda1"] * y
        y = norm(state, layer + "norm2", x)
        if layer + "mlp.weights_in.weight" in state:
            y = linear(state, layer + "mlp.weights_out", gated(linear(state, layer + "mlp.weights_in", y)))
        else:
            y = linear(state, layer + "mlp.fc2", gelu(linear(state, layer + "mlp.fc1", y)))
        x = x + state[layer + "layer_scale2.lambda1"] * y
    x = norm(state, "layernorm", x)
    return x[0], x[1 + len(registers) :]


# DINOv2 in timm; with registers, neither these nor the class token have a position.


def timm_shapes(feed_forward, *, registers=0):
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, (0 if registers else 1) + GRID**2, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    if registers:
        shapes["reg_token"] = (1, registers, WIDTH)
    wide, narrow = (HIDDEN, HIDDEN) if feed_forward == "mlp" else (2 * GATED, GATED)
    for i in range(DEPTH):
        layers = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH)}
        layers |= {"mlp.fc1": (wide, WIDTH), "mlp.fc2": (WIDTH, narrow)}
        for layer, shape in layers.items():
            shapes |= {f"blocks.{i}.{layer}.weight": shape, f"blocks.{i}.{layer}.bias": shape[:1]}
        for vector in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            shapes[f"blocks.{i}.{vector}"] = (WIDTH,)
    return shapes


def timm_tokens(state, image):
    x = embedded(state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], image)
    token, positions = state["cls_token"][0].astype(float), state["pos_embed"][0]
    if "reg_token" in state:
        x = np.concatenate([token, state["reg_token"][0], x + positions])
    else:
        x = np.concatenate([token, x]) + positions
    for i in range(DEPTH):
        block = f"blocks.{i}."
        q, k, v = np.split(linear(state, block + "attn.qkv", norm(state, block + "norm1", x)), 3, -1)
        x = x + state[block + "ls1.gamma"] * linear(state, block + "attn.proj", attended(q, k, v))
        y = linear(state, block + "mlp.fc1", norm(state, block + "norm2", x))
        y = gelu(y) if y.shape[-1] == HIDDEN else gated(y)
        x = x + state[block + "ls2.gamma"] * linear(state, block + "mlp.fc2", y)
    x = norm(state, "norm", x)
    return x[0], x[-(GRID**2) :]


def imported(folder, state, **options):
    """The encoder of a file of these tensors, in float64."""
    source, output = folder / "published.safetensors", folder / "ours.safetensors"
    save_file({name: torch.from_numpy(value) for name, value in state.items()}, source)
    of_volumes = state.get("patch_embed.proj.weight", np.empty(0)).ndim == 5
    unused = dict.fromkeys(("patch_voxels", "image_mean", "image_std")) if of_volumes else {}
    import_weights(source, output, settings(**(unused | options)))
    return load_encoder(output)[0].double().requires_grad_(False)


def settings(**options):
    values = dict(voxel_um=0.104, heads=HEADS, patch_voxels=PATCH, field_of_view_voxels=GRID * PATCH)
    values |= dict(image_mean=tuple(MEAN), image_std=tuple(STD))
    return ImportParameters(**(values | options))


def compare(model, volume, truth):
    output = model(torch.from_numpy(volume)[None])
    found = np.concatenate([output.class_token.numpy(), output.patch_tokens[0].numpy()])
    expected = np.concatenate([truth[0][None], truth[1]])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(expected).max() > 0.5  # there is something to agree on


SPATIALDINO = {
    "none": (dict(feed_forward="mlp"), {"positions": "none"}),
    "learned": (dict(feed_forward="swiglu", learned=True), {}),
    "learned with registers": (
        dict(feed_forward="swiglu", learned=True, registers=4),
        {"positions": "learned"},
    ),
    "rotary": (dict(feed_forward="swiglu", registers=4), {"positions": "rope", "rope_base": 200}),
    "rotary of another base": (dict(feed_forward="mlp"), {"positions": "rope", "rope_base": 37.5}),
}


@pytest.mark.parametrize("scheme", SPATIALDINO)
def test_spatialdino(tmp_path, scheme):
    layout, options = SPATIALDINO[scheme]
    state = drawn(spatialdino_shapes(**layout), seed=1)
    volume = np.random.default_rng(2).random((1, *[GRID * PATCH] * 3))
    truth = spatialdino_tokens(state, volume, options.get("rope_base"))
    compare(imported(tmp_path, state, **options), volume, truth)


def test_rotations_matter(tmp_path):
    """What was imported before, without a word: the same file as one without positions."""
    state = drawn(spatialdino_shapes("swiglu", registers=4), seed=1)
    volume = np.random.default_rng(2).random((1, *[GRID * PATCH] * 3))
    _, turned_tokens = spatialdino_tokens(state, volume, 200)
    _, still = spatialdino_tokens(state, volume)
    assert np.abs(turned_tokens - still).max() > 0.1


DINOV2 = {"transformers": (transformers_shapes, transformers_tokens), "timm": (timm_shapes, timm_tokens)}


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("feed_forward", ["mlp", "swiglu"])
@pytest.mark.parametrize("library", DINOV2)
def test_dinov2(tmp_path, library, feed_forward, registers):
    shapes, tokens = DINOV2[library]
    state = drawn(shapes(feed_forward, registers=registers), seed=3)
    grey = np.random.default_rng(4).random((GRID * PATCH, GRID * PATCH))
    truth = tokens(state, (grey - MEAN[:, None, None]) / STD[:, None, None])
    compare(imported(tmp_path, state), np.broadcast_to(grey, (1, PATCH, *grey.shape)).copy(), truth)


def test_leftover_pairs_turn_with_x():
    rotations = axial_rotations(20, 100.0, (3, 4, 5)).numpy()  # 10 pairs: 3, 3 and 4
    axes = rotations != 0
    assert axes.sum(1).tolist() == [3, 3, 4]
    assert (axes.sum(0) == 1).all()
    np.testing.assert_allclose(rotations[2, 6:], 4 * np.pi / 5 / 100 ** (np.arange(4) / 4), rtol=1e-6)


CONTRADICTIONS = {
    "nobody tells": (spatialdino_shapes("mlp"), {}, "--positions none .* --positions rope --rope-base 200"),
    "no base": (spatialdino_shapes("mlp"), {"positions": "rope"}, "--rope-base 200"),
    "none to learn from": (spatialdino_shapes("mlp"), {"positions": "learned"}, "positions: learned"),
    "learned ones rotated": (
        spatialdino_shapes("mlp", learned=True),
        {"positions": "rope", "rope_base": 200},
        "with learned positions, and positions: rope.*--positions learned",
    ),
    "a base for nothing": (
        spatialdino_shapes("mlp", learned=True),
        {"rope_base": 200},
        "Leave --rope-base out",
    ),
    "an image encoder without": (
        {name: shape for name, shape in timm_shapes("mlp").items() if name != "pos_embed"},
        {},
        "published ones have.*--positions none",
    ),
    "an image encoder rotated": (
        {name: shape for name, shape in timm_shapes("mlp").items() if name != "pos_embed"},
        {"positions": "rope", "rope_base": 200},
        "--positions none",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_positions_that_nothing_tells_are_asked_for(tmp_path, case):
    shapes, options, message = CONTRADICTIONS[case]
    with pytest.raises(BadInputError, match=message):
        imported(tmp_path, drawn(shapes, seed=5), **options)


def test_remedies_of_the_command_line_work(tmp_path, capsys):
    source, output = tmp_path / "backbone.safetensors", tmp_path / "ours.safetensors"
    state = drawn(spatialdino_shapes("mlp", registers=4), seed=6)
    save_file({name: torch.from_numpy(value) for name, value in state.items()}, source)
    line = [str(source), "--out", str(output), "--voxel-um", "0.104", "--heads", str(HEADS)]
    assert main(line) == 1
    assert "positions none or rope" in capsys.readouterr().err
    assert main([*line, "--positions", "none"]) == 0
    assert "positions none, as asked" in capsys.readouterr().out
    assert main([*line, "--positions", "rope", "--rope-base", "200"]) == 0
    assert "rotations of base 200" in capsys.readouterr().out
    assert load_encoder(output)[1].architecture.positions == "rope"
    assert main([*line[:-3], "104", *line[-2:], "--positions", "none"]) == 1
    said = capsys.readouterr().err
    assert "voxel_um = 104" in said
    assert said.count("\n") == 1
