"""Encoder weights as one safetensors file that says what they are and what input they expect (``header.py``).

Strict on purpose: a file that does not fit its own header to the last key is refused. Not a training
checkpoint (no optimiser, no heads), and not an importer of other people's formats.

The file holds the encoder's tensors under ``encoder.``, any extra tensors under names of their own
(such as ``pca.mean``), and its header as canonical JSON, so that equal content gives equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from spatialdino_core.encoder.header import (
    METADATA_KEY,
    REMEDY,
    WeightsHeader,
    header_of,
    read_metadata,
    refuse,
)
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import VisionTransformer3D, empty_encoder
from spatialdino_core.files import published

PREFIX = "encoder."


def save_encoder(
    path: Path,
    encoder: VisionTransformer3D,
    header: WeightsHeader,
    extra: Mapping[str, Tensor] | None = None,
) -> None:
    """Write an encoder to a safetensors file, whole or not at all.

    Parameters
    ----------
    path
        File to write; an existing file is replaced.
    encoder
        Encoder whose architecture is ``header.architecture``.
    header
        What the file says about itself.
    extra
        Further tensors, named ``subject.name``, for instance ``pca.components``.

    Raises
    ------
    BadInputError
        If the header describes another architecture, or the name of an extra tensor is not allowed.
    """
    if encoder.architecture != header.architecture:
        refuse(path, f"an encoder of {encoder.architecture}", f"the header's {header.architecture}")
    extra = dict(extra or {})
    for name in extra:
        if "." not in name or name.startswith(PREFIX):
            refuse(path, f"an extra tensor {name!r}", f"a name 'subject.name', not under {PREFIX!r}")
    tensors = {PREFIX + name: tensor for name, tensor in encoder.state_dict().items()} | extra
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    described = asdict(header)
    metadata = {"header": described, "extra": sorted(extra), "blake2b": _checksum(described, tensors)}
    with published(path) as beside:
        beside.write_bytes(save(tensors, {METADATA_KEY: json.dumps(metadata, sort_keys=True)}))


def load_encoder(path: Path) -> tuple[VisionTransformer3D, WeightsHeader, dict[str, Tensor]]:
    """Read an encoder, its header and its extra tensors, on the CPU.

    Raises
    ------
    BadInputError
        If the file is missing, truncated, altered, of a newer format, or if any tensor is missing,
        unexpected, of the wrong shape or type, or not finite.
    """
    path = Path(path)
    metadata, tensors = _read(path)
    header = header_of(path, metadata)
    extra = {name: tensors.pop(name) for name in metadata["extra"] if name in tensors}
    if lost := sorted(set(metadata["extra"]) - set(extra)):
        refuse(path, f"missing extra tensors {lost}", "every tensor that the header lists")
    state = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    encoder = empty_encoder(header.architecture)
    _check_architecture(path, state, header.architecture)
    check_tensors(path, state, encoder.state_dict())
    if _checksum(metadata["header"], tensors | extra) != metadata["blake2b"]:
        refuse(path, "content that differs from its checksum", "an unaltered file")
    encoder.load_state_dict(state, assign=True)
    return encoder.requires_grad_(True), header, extra


def weights_hash(path: Path) -> str:
    """Fingerprint (32 hexadecimal characters of BLAKE2b) of the tensors and the header of a file."""
    metadata, tensors = _read(Path(path))
    return _checksum(metadata["header"], tensors)


def infer_architecture(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read from names and shapes of an encoder's tensors what they tell about its architecture.

    They do not tell the number of heads, nor fixed sines from no positions, nor test-time registers.

    Raises
    ------
    LookupError, ValueError
        If a tensor that should tell is missing or has another number of axes.
    """
    embed_dim, channels, patch_voxels, _, _ = state["patch_embed.proj.weight"].shape
    gated = "blocks.0.mlp.w3.weight" in state
    hidden = state["blocks.0.mlp.w3.weight" if gated else "blocks.0.mlp.fc2.weight"].shape[1]
    told: dict[str, Any] = {
        "channels": channels,
        "embed_dim": embed_dim,
        "depth": len({name.split(".")[1] for name in state if name.startswith("blocks.")}),
        "patch_voxels": patch_voxels,
        "feed_forward": "swiglu" if gated else "mlp",
        "mlp_dim": hidden,
        "registers": state["register_tokens"].shape[1] if "register_tokens" in state else 0,
    }
    if "positions.table" in state:
        told |= {"positions": "learned", "position_grid": tuple(state["positions.table"].shape[2:])}
    elif "positions.frequencies" in state:
        told |= {"positions": "rope"}
    return told


def _check_architecture(path: Path, state: Mapping[str, Tensor], stated: EncoderParameters) -> None:
    try:
        inferred = infer_architecture(state)
    except (LookupError, ValueError) as error:
        refuse(path, f"tensors from which no architecture can be read ({error!r})", f"{stated}")
    for name, value in inferred.items():
        if value != getattr(stated, name):
            refuse(path, f"tensors with {name} = {value}", f"{getattr(stated, name)} as in the header")


def check_tensors(
    path: Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], remedy: str = REMEDY
) -> None:
    """Compare the tensors of a file with those of an architecture, name by name.

    Raises
    ------
    BadInputError
        If any is missing, unexpected, of another shape, not float32, or not finite.
    """
    if missing := sorted(set(wanted) - set(state)):
        refuse(path, f"missing tensors {missing}", "every tensor of the architecture", remedy)
    if unexpected := sorted(set(state) - set(wanted)):
        refuse(path, f"unexpected tensors {unexpected}", "only the tensors of the architecture", remedy)
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape or tensor.dtype != torch.float32:
            found = f"{name} of shape {tuple(tensor.shape)}, {tensor.dtype}"
            refuse(path, found, f"shape {tuple(wanted[name].shape)}, torch.float32", remedy)
        if not tensor.isfinite().all():
            refuse(path, f"{name} with NaN or infinite values", "finite weights", remedy)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    metadata = read_metadata(path)
    with safe_open(path, framework="pt") as file:
        return metadata, {name: file.get_tensor(name) for name in sorted(file.keys())}


def _checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    summary = hashlib.blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        summary.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        summary.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return summary.hexdigest()
