"""A foreign encoder, under our names, becomes a 3D encoder of ours. Not the reading or writing of files.

Strict: the architecture is inferred from the tensors, and each of them must find its place.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError
from torch import Tensor

from spatialdino_core.encoder.foreign_positions import position_tensors
from spatialdino_core.encoder.inflate import inflate_patch_embedding
from spatialdino_core.encoder.layouts import HEAD_DIM, ForeignEncoder
from spatialdino_core.encoder.parameters import EncoderParameters, ImportParameters
from spatialdino_core.encoder.vit import VisionTransformer3D, empty_encoder
from spatialdino_core.encoder.weights import check_tensors, infer_architecture
from spatialdino_core.errors import BadInputError

REMEDY = "Give the file as it was published; if its layout is new, it cannot be imported."


def convert(
    foreign: ForeignEncoder, parameters: ImportParameters, source: Path | str = "weights"
) -> tuple[VisionTransformer3D, int, list[str]]:
    """Build the 3D encoder of a foreign one.

    Parameters
    ----------
    foreign
        The encoder under our names.
    parameters
        What its tensors do not tell.
    source
        Where they come from, for messages.

    Returns
    -------
    encoder : VisionTransformer3D
        float32, on the CPU.
    side : int
        Side of the field of view (voxels).
    notes : list of str
        What was left out or changed on the way, those of ``foreign`` included.

    Raises
    ------
    BadInputError
        If a tensor is missing, unexpected, of the wrong shape or not finite, no architecture fits, or nothing
        tells which positions it has.
    """
    tensors, notes = dict(foreign.tensors), list(foreign.notes)
    if foreign.kind != "SpatialDINO":
        notes.append(_inflate_patch_embedding(tensors, parameters, source))
    patch = tensors["patch_embed.proj.weight"].shape[-1]
    side = _field_of_view(foreign, parameters, patch)
    if side % patch:
        _refuse(source, f"a field of view of {side} voxels", f"whole patches of {patch} voxels", "Change it.")
    grid = (side // patch,) * 3
    width = tensors["patch_embed.proj.weight"].shape[0]
    head_dim = width // (parameters.heads or max(1, width // HEAD_DIM))
    positions, note = position_tensors(foreign, parameters, head_dim, grid, source)
    tensors |= positions
    notes.append(note)
    architecture = _architecture(tensors, foreign, parameters, source)
    encoder = empty_encoder(architecture)
    state = {name: tensor.float().contiguous() for name, tensor in tensors.items()}
    check_tensors(Path(source), state, encoder.state_dict(), REMEDY)
    encoder.load_state_dict(state, assign=True)
    return encoder.requires_grad_(True), side, notes


def _inflate_patch_embedding(
    tensors: dict[str, Tensor], parameters: ImportParameters, source: Path | str
) -> str:
    """Replace the 2D patch embedding, and say how."""
    names = ("patch_embed.proj.weight", "patch_embed.proj.bias")
    if missing := sorted(set(names) - set(tensors)):
        _refuse(source, f"missing tensors {missing}", "every tensor of the architecture", REMEDY)
    weight, bias = (tensors[name] for name in names)
    colours, mean, std = weight.shape[1], parameters.image_mean, parameters.image_std
    if not colours == len(mean) == len(std):
        _refuse(
            source,
            f"images of {colours} colours",
            f"as many as in image_mean ({len(mean)}) and image_std ({len(std)})",
            "Give one value per colour.",
        )
    new = inflate_patch_embedding(weight, bias, parameters.patch_voxels, mean, std)
    tensors.update(zip(names, new, strict=True))
    return (
        f"patches of {weight.shape[-1]} pixels became {parameters.patch_voxels} voxels by the pseudo-inverse "
        f"of resizing, the same at every z; {colours} colours summed to one channel in [0, 1]"
    )


def _field_of_view(foreign: ForeignEncoder, parameters: ImportParameters, patch: int) -> int:
    if parameters.field_of_view_voxels is not None:
        return parameters.field_of_view_voxels
    if foreign.kind == "SpatialDINO" and foreign.positions is not None:
        return round(len(foreign.positions) ** (1 / 3)) * patch
    return 112


def _architecture(
    tensors: dict[str, Tensor], foreign: ForeignEncoder, parameters: ImportParameters, source: Path | str
) -> EncoderParameters:
    try:
        told = infer_architecture(tensors)
    except (LookupError, ValueError) as error:
        _refuse(source, f"tensors from which no architecture can be read ({error!r})", foreign.kind, REMEDY)
    hidden, width = told.pop("mlp_dim"), told["embed_dim"]
    if parameters.heads is None and width % HEAD_DIM:
        _refuse(
            source,
            f"{width} features per token",
            f"heads of {HEAD_DIM}",
            "Say how many heads the encoder has.",
        )
    share = 1.5 if told["feed_forward"] == "swiglu" else 1.0
    try:
        architecture = EncoderParameters(
            **told,
            heads=parameters.heads or width // HEAD_DIM,
            mlp_ratio=share * hidden / width,
            norm_eps=foreign.norm_eps,
            test_time_registers=foreign.test_time_registers + parameters.test_time_registers,
        )
    except ValidationError as error:
        _refuse(source, f"an impossible architecture ({error})", foreign.kind, "Check the number of heads.")
    if architecture.mlp_dim != hidden:
        _refuse(
            source, f"a {architecture.feed_forward} of {hidden} hidden features", "a multiple of 8", REMEDY
        )
    return architecture


def _refuse(source: Path | str, found: str, expected: str, remedy: str) -> NoReturn:
    raise BadInputError(source, found=found, expected=expected, remedy=remedy)
