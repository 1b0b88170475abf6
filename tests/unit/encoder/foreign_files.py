"""State dictionaries of foreign encoders: names and shapes as published, values at random."""

import torch


def _blocks(depth, width, names, generator, hidden):
    def draw(*shape):
        return 0.3 * torch.randn(shape, generator=generator)

    shapes = {
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "attn.qkv.weight": (3 * width, width),
        "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "ls1.gamma": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "ls2.gamma": (width,),
    }
    if names == "mlp":
        shapes |= {"mlp.fc1.weight": (hidden, width), "mlp.fc1.bias": (hidden,)}
        shapes |= {"mlp.fc2.weight": (width, hidden), "mlp.fc2.bias": (width,)}
    elif names == "swiglu":
        shapes |= {"mlp.w12.weight": (2 * hidden, width), "mlp.w12.bias": (2 * hidden,)}
        shapes |= {"mlp.w3.weight": (width, hidden), "mlp.w3.bias": (width,)}
    else:
        for part in ("w1", "w2"):
            shapes |= {f"mlp.{part}.weight": (hidden, width), f"mlp.{part}.bias": (hidden,)}
        shapes |= {"mlp.w3.weight": (width, hidden), "mlp.w3.bias": (width,)}
    return {f"blocks.{i}.{name}": draw(*shape) for i in range(depth) for name, shape in shapes.items()}


def _common(width, patch, axes, colours, generator):
    def draw(*shape):
        return 0.3 * torch.randn(shape, generator=generator)

    return {
        "cls_token": draw(1, 1, width),
        "mask_token": draw(1, width),
        "patch_embed.proj.weight": draw(width, colours, *[patch] * axes) / patch ** (axes / 2),
        "patch_embed.proj.bias": draw(width),
        "norm.weight": draw(width),
        "norm.bias": draw(width),
    }


def spatialdino(width=24, depth=2, patch=4, feed_forward="mlp", positions=0, registers=0, hidden=None):
    generator = torch.Generator().manual_seed(0)
    hidden = hidden or (4 * width if feed_forward == "mlp" else 8 * width // 3)
    state = _common(width, patch, 3, 1, generator)
    state |= _blocks(depth, width, feed_forward, generator, hidden)
    if positions:
        state["pos_embed"] = torch.randn(1, 1 + positions**3, width, generator=generator)
    if registers:
        state["register_tokens"] = torch.randn(1, registers, width, generator=generator)
    return state


def dinov2(width=24, depth=2, patch=14, side=3, registers=0, feed_forward="mlp"):
    generator = torch.Generator().manual_seed(1)
    hidden = 4 * width if feed_forward == "mlp" else 8 * width // 3
    state = _common(width, patch, 2, 3, generator) | _blocks(depth, width, feed_forward, generator, hidden)
    state["pos_embed"] = torch.randn(1, 1 + side**2, width, generator=generator)
    if registers:
        state["register_tokens"] = torch.randn(1, registers, width, generator=generator)
    return state


def dinov3(width=32, heads=2, depth=2, patch=16, registers=4, feed_forward="mlp"):
    generator = torch.Generator().manual_seed(2)
    hidden = 4 * width
    state = _common(width, patch, 2, 3, generator) | _blocks(depth, width, feed_forward, generator, hidden)
    state["storage_tokens"] = torch.randn(1, registers, width, generator=generator)
    quarter = width // heads // 4
    state["rope_embed.periods"] = 100 ** (2 * torch.arange(quarter) / (2 * quarter))
    for i in range(depth):
        mask = torch.ones(3 * width)
        mask[width : 2 * width] = 0
        state[f"blocks.{i}.attn.qkv.bias_mask"] = mask
    return state


def hub(official):
    """The same encoder as the transformers library stores it."""
    state = {
        "embeddings.cls_token": official["cls_token"],
        "embeddings.mask_token": official["mask_token"][None],
        "embeddings.register_tokens": official["storage_tokens"],
        "embeddings.patch_embeddings.weight": official["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.bias": official["patch_embed.proj.bias"],
        "norm.weight": official["norm.weight"],
        "norm.bias": official["norm.bias"],
    }
    gated = "blocks.0.mlp.w1.weight" in official
    renamed = {"attn.proj": "attention.o_proj", "norm1": "norm1", "norm2": "norm2"}
    renamed |= (
        {"mlp.w1": "mlp.gate_proj", "mlp.w2": "mlp.up_proj", "mlp.w3": "mlp.down_proj"}
        if gated
        else {"mlp.fc1": "mlp.up_proj", "mlp.fc2": "mlp.down_proj"}
    )
    depth = len({name.split(".")[1] for name in official if name.startswith("blocks.")})
    for i in range(depth):
        block = f"blocks.{i}."
        for ours, theirs in renamed.items():
            for kind in ("weight", "bias"):
                state[f"layer.{i}.{theirs}.{kind}"] = official[f"{block}{ours}.{kind}"]
        for kind in ("weight", "bias"):
            for part, tensor in zip("qkv", official[f"{block}attn.qkv.{kind}"].chunk(3), strict=True):
                if (part, kind) != ("k", "bias"):
                    state[f"layer.{i}.attention.{part}_proj.{kind}"] = tensor.clone()
        for branch in (1, 2):
            state[f"layer.{i}.layer_scale{branch}.lambda1"] = official[f"{block}ls{branch}.gamma"]
    return state
