"""Foreign encoders by the names of their tensors: which layout it is, and what each tensor is here.

Layouts are recognised by names and shapes alone and translated to the names of this encoder. A name that no
rule knows stays as it is, and is refused when the result is compared with the architecture. Not the change
from 2D to 3D.

Known layouts, with what they call their tensors:

- SpatialDINO (3D): ``backbone.pth``, the bare encoder; or ``ckpt.pth`` of its training, of which
  ``teacher.encoder.`` is taken. MLP or SwiGLU; with or without ``pos_embed`` and registers. Without
  ``pos_embed`` its tokens may know no place, or turn: the file looks the same.
- DINOv2 (2D): the published ``.pth``.
- DINOv2 (2D) as the transformers library stores it: ``embeddings.``, ``encoder.layer.`` and separate query,
  key and value.
- DINOv2 (2D) as timm stores it: ``reg_token``; with registers, ``pos_embed`` of patches alone; a SwiGLU as
  ``fc1`` and ``fc2``; no mask token.
- DINOv3 (2D): the published ``.pth``, with storage tokens, masked key biases and rotary periods.
- DINOv3 (2D) as the transformers library stores it: ``embeddings.``, ``layer.`` and separate query, key and
  value; without key biases and without periods, which follow from the width of a head.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

import torch
from torch import Tensor

from spatialdino_core.errors import BadInputError

TEACHER = "teacher.encoder."
HEAD_DIM = 64
"""Features per head of every published encoder of these families."""

DINOV3_ROPE_BASE = 100.0
MASK = ".qkv.bias_mask"

DINOV2_HUB_NAMES = {
    r"^embeddings\.(cls_token|mask_token|register_tokens)$": r"\1",
    r"^embeddings\.position_embeddings$": r"pos_embed",
    r"^embeddings\.patch_embeddings\.projection\.": r"patch_embed.proj.",
    r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.": r"blocks.\1.attn.proj.",
    r"^encoder\.layer\.(\d+)\.attention\.attention\.(q)uery\.": r"blocks.\1.attn.\2.",
    r"^encoder\.layer\.(\d+)\.attention\.attention\.(k)ey\.": r"blocks.\1.attn.\2.",
    r"^encoder\.layer\.(\d+)\.attention\.attention\.(v)alue\.": r"blocks.\1.attn.\2.",
    r"^encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1$": r"blocks.\1.ls\2.gamma",
    r"^encoder\.layer\.(\d+)\.norm([12])\.": r"blocks.\1.norm\2.",
    r"^encoder\.layer\.(\d+)\.mlp\.fc([12])\.": r"blocks.\1.mlp.fc\2.",
    r"^encoder\.layer\.(\d+)\.mlp\.weights_in\.": r"blocks.\1.mlp.w12.",
    r"^encoder\.layer\.(\d+)\.mlp\.weights_out\.": r"blocks.\1.mlp.w3.",
    r"^layernorm\.": r"norm.",
}
DINOV3_HUB_NAMES = {
    r"^embeddings\.(cls_token|mask_token|register_tokens)$": r"\1",
    r"^embeddings\.patch_embeddings\.(weight|bias)$": r"patch_embed.proj.\1",
    r"^layer\.(\d+)\.attention\.o_proj\.": r"blocks.\1.attn.proj.",
    r"^layer\.(\d+)\.attention\.([qkv])_proj\.": r"blocks.\1.attn.\2.",
    r"^layer\.(\d+)\.layer_scale([12])\.lambda1$": r"blocks.\1.ls\2.gamma",
    r"^layer\.(\d+)\.norm([12])\.": r"blocks.\1.norm\2.",
    r"^layer\.(\d+)\.mlp\.gate_proj\.": r"blocks.\1.mlp.w1.",
    r"^layer\.(\d+)\.mlp\.up_proj\.": r"blocks.\1.mlp.w2.",
    r"^layer\.(\d+)\.mlp\.down_proj\.": r"blocks.\1.mlp.w3.",
}
HUB_UNGATED = {r"\.mlp\.w2\.": ".mlp.fc1.", r"\.mlp\.w3\.": ".mlp.fc2."}


@dataclass
class ForeignEncoder:
    """A foreign encoder under the names of this one.

    Attributes
    ----------
    kind
        Name of its layout.
    tensors
        Float32. Names are those of this encoder where it has the like; the patch embedding is still 2D for
        encoders of images.
    notes
        What was left out or done to it, in sentences.
    positions
        (N, D) learned positions of patches, or None.
    periods
        (d / 4,) rotary periods of an image encoder, or None.
    rope_base
        Base of its rotary periods where the layout alone says that it has some, or None.
    norm_eps
        What its layer norms add to the variance.
    test_time_registers
        Zero registers that it carries.
    """

    kind: Literal["SpatialDINO", "DINOv2", "DINOv3"]
    tensors: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)
    positions: Tensor | None = None
    periods: Tensor | None = None
    rope_base: float | None = None
    norm_eps: float = 1e-6
    test_time_registers: int = 0


def read_foreign(state: Mapping[str, Tensor], source: Path | str) -> ForeignEncoder:
    """Recognise a layout and translate it.

    Parameters
    ----------
    state
        Tensors by name.
    source
        Where they come from, for messages.

    Raises
    ------
    BadInputError
        If no layout fits, or a tensor that tells the layout has a shape that it cannot have.
    """
    tensors, notes = dict(state), []
    if any(name.startswith(TEACHER) for name in tensors):
        others = {name for name in tensors if not name.startswith(TEACHER)}
        notes.append(f"{len(others)} tensors of the training checkpoint outside {TEACHER!r} left out")
        tensors = {name.removeprefix(TEACHER): t for name, t in tensors.items() if name not in others}
    odd = {name: kind for name, tensor in tensors.items() if (kind := _no_weights(name, tensor))}
    if odd:
        listed = ", ".join(f"{name} ({kind})" for name, kind in list(odd.items())[:4])
        more = f" and {len(odd) - 4} more" if len(odd) > 4 else ""
        _refuse(source, f"{listed}{more}", "weights as dense tensors of floating point numbers")
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    if "embeddings.patch_embeddings.weight" in tensors:
        foreign = _dinov3_hub(tensors, notes)
    elif "embeddings.patch_embeddings.projection.weight" in tensors:
        foreign = _learned(ForeignEncoder("DINOv2", _renamed(tensors, DINOV2_HUB_NAMES), notes), source)
    elif (axes := _embedding_axes(tensors)) == 5:
        foreign = _learned(ForeignEncoder("SpatialDINO", tensors, notes), source)
    elif axes == 4 and {"rope_embed.periods", "storage_tokens"} & set(tensors):
        foreign = _dinov3(tensors, notes, source)
    elif axes == 4:
        _from_timm(tensors)
        foreign = _learned(ForeignEncoder("DINOv2", tensors, notes), source)
    else:
        raise BadInputError(
            source,
            found=f"tensors {sorted(tensors)[:8]} ... of no known layout",
            expected="SpatialDINO, DINOv2 or DINOv3",
            remedy="Give the file that holds the bare encoder (backbone), as it was published.",
        )
    _zero_registers(foreign, source)
    _mask_token(foreign)
    return foreign


def _no_weights(name: str, tensor: Tensor) -> str:
    """Why a tensor cannot be taken for weights; empty if it can."""
    if tensor.is_meta:
        return "without values"
    if tensor.layout != torch.strided:
        return str(tensor.layout).removeprefix("torch.")
    plain = tensor.is_floating_point() or (name.endswith(MASK) and not tensor.is_complex())
    return "" if plain else str(tensor.dtype).removeprefix("torch.")


def _embedding_axes(tensors: Mapping[str, Tensor]) -> int:
    return tensors["patch_embed.proj.weight"].ndim if "patch_embed.proj.weight" in tensors else 0


def _learned(foreign: ForeignEncoder, source: Path | str) -> ForeignEncoder:
    """Learned positions (1, N, D), or (1, 1 + N, D) with one of the class token, added to it for good."""
    embedding = foreign.tensors.pop("pos_embed", None)
    if embedding is None:
        return foreign
    token = foreign.tensors.get("cls_token")
    if token is None or embedding.ndim != 3 or embedding.shape[::2] != token.shape[::2]:
        _refuse(source, f"pos_embed of shape {tuple(embedding.shape)}", "(1, 1 + N, D) beside a cls_token")
    if foreign.kind == "DINOv2" and math.isqrt(embedding.shape[1]) ** 2 == embedding.shape[1]:
        foreign.positions = embedding[0]
        return foreign
    foreign.tensors["cls_token"] = token + embedding[:, :1]
    foreign.positions = embedding[0, 1:]
    foreign.notes.append("the position of the class token was added to it")
    return foreign


def _from_timm(tensors: dict[str, Tensor]) -> None:
    """Names of timm that differ from those of DINOv2: registers, and a SwiGLU, gate first, as two layers."""
    if "reg_token" in tensors:
        tensors["register_tokens"] = tensors.pop("reg_token")
    for name in [name for name in tensors if name.endswith(".mlp.fc2.weight")]:
        block, hidden = name.removesuffix("fc2.weight"), tensors[name].shape[-1]
        if len(tensors.get(f"{block}fc1.weight", ())) == 2 * hidden:
            for kind in ("weight", "bias"):
                for theirs, ours in (("fc1", "w12"), ("fc2", "w3")):
                    if f"{block}{theirs}.{kind}" in tensors:
                        tensors[f"{block}{ours}.{kind}"] = tensors.pop(f"{block}{theirs}.{kind}")


def _dinov3(tensors: dict[str, Tensor], notes: list[str], source: Path | str) -> ForeignEncoder:
    foreign = ForeignEncoder("DINOv3", tensors, notes, norm_eps=1e-5)
    foreign.periods = tensors.pop("rope_embed.periods", None)
    if "storage_tokens" in tensors:
        tensors["register_tokens"] = tensors.pop("storage_tokens")
    for name in [name for name in tensors if name.startswith("local_cls_norm.")]:
        tensors.pop(name)
        notes.append(f"{name} left out: used in training only")
    for name in [name for name in tensors if name.endswith(MASK)]:
        mask, bias = tensors.pop(name), name.removesuffix("_mask")
        if bias not in tensors or mask.shape != tensors[bias].shape or not ((mask == 0) | (mask == 1)).all():
            _refuse(source, f"{name} that is no mask of {bias}", "zeros and ones, one per bias")
        tensors[bias] = torch.where(mask == 0, 0.0, tensors[bias])
    _join_gate(tensors)
    return foreign


def _dinov3_hub(tensors: Mapping[str, Tensor], notes: list[str]) -> ForeignEncoder:
    gated = any(".mlp.gate_proj." in name for name in tensors)
    renamed = _renamed(tensors, DINOV3_HUB_NAMES | ({} if gated else HUB_UNGATED))
    return ForeignEncoder("DINOv3", renamed, notes, rope_base=DINOV3_ROPE_BASE, norm_eps=1e-5)


def _renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors of the transformers library under our names, with what it keeps apart joined."""
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, ours in names.items():
            name = re.sub(pattern, ours, name)
        renamed[name] = tensor
    if "mask_token" in renamed:
        renamed["mask_token"] = renamed["mask_token"].flatten(0, -2)
    for name in [name for name in renamed if re.fullmatch(r"blocks\.\d+\.attn\.q\.weight", name)]:
        _join_attention(renamed, name.removesuffix("q.weight"))
    _join_gate(renamed)
    return renamed


def _join_attention(tensors: dict[str, Tensor], prefix: str) -> None:
    """Query, key and value as one layer; a key bias that does not exist is zero."""
    names = [prefix + f"{part}.{kind}" for kind in ("weight", "bias") for part in "qkv"]
    if f"{prefix}q.bias" in tensors and f"{prefix}k.bias" not in tensors:
        tensors[f"{prefix}k.bias"] = torch.zeros_like(tensors[f"{prefix}q.bias"])
    if not all(name in tensors for name in names):
        return  # what is there is refused by its own name
    for kind in ("weight", "bias"):
        tensors[f"{prefix}qkv.{kind}"] = torch.cat([tensors.pop(f"{prefix}{part}.{kind}") for part in "qkv"])


def _join_gate(tensors: dict[str, Tensor]) -> None:
    """Gate and value of a SwiGLU as one layer ``w12``."""
    for name in [name for name in tensors if re.search(r"\.mlp\.w1\.(weight|bias)$", name)]:
        value = name.replace(".w1.", ".w2.")
        if value in tensors:
            tensors[name.replace(".w1.", ".w12.")] = torch.cat([tensors.pop(name), tensors.pop(value)])


def _mask_token(foreign: ForeignEncoder) -> None:
    """A file for inference may lack the mask token, which matters in training alone."""
    token = foreign.tensors.get("cls_token")
    if foreign.kind == "DINOv2" and "mask_token" not in foreign.tensors and token is not None:
        foreign.tensors["mask_token"] = torch.zeros_like(token[0])
        foreign.notes.append("no mask token in the file: zeros, which encoding never sees")


def _zero_registers(foreign: ForeignEncoder, source: Path | str) -> None:
    """Test-time registers are zero by definition: they become a number."""
    registers = foreign.tensors.pop("tt_register_tokens", None)
    if registers is None:
        return
    if registers.ndim != 3 or registers.any():
        _refuse(source, "tt_register_tokens that are not (1, n, D) zeros", "zero test-time registers")
    foreign.test_time_registers = registers.shape[1]


def _refuse(source: Path | str, found: str, expected: str) -> NoReturn:
    raise BadInputError(
        source, found=found, expected=expected, remedy="Give the file as it was published, unchanged."
    )
