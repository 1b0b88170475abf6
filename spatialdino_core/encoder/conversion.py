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
from spatialdino_core.parameters import problems_of

PATCH_VOXELS = 8
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OF_IMAGES = ("patch_voxels", "image_mean", "image_std")
"""Options that an encoder of volumes has no use for."""
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
    idle = [name for name in OF_IMAGES if getattr(parameters, name) is not None]
    if foreign.kind != "SpatialDINO":
        notes.append(_inflate_patch_embedding(tensors, parameters, source))
    elif idle:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        _refuse(source, f"an encoder of volumes, and {options}", "that for one of images", "Leave it out.")
    patch = tensors["patch_embed.proj.weight"].shape[-1]
    side = _field_of_view(foreign, parameters, patch, source)
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
    colours, side = weight.shape[1], parameters.patch_voxels or PATCH_VOXELS
    mean, std = parameters.image_mean or IMAGENET_MEAN, parameters.image_std or IMAGENET_STD
    if not colours == len(mean) == len(std):
        _refuse(
            source,
            f"images of {colours} colours",
            f"as many as in image_mean ({len(mean)}) and image_std ({len(std)})",
            "Give one value per colour.",
        )
    new = inflate_patch_embedding(weight, bias, side, mean, std)
    tensors.update(zip(names, new, strict=True))
    return (
        f"patches of {weight.shape[-1]} pixels became {side} voxels by the pseudo-inverse of resizing, the "
        f"same at every z; {colours} colours, less {list(mean)} and over {list(std)}, summed to one channel "
        "in [0, 1]"
    )


def _field_of_view(
    foreign: ForeignEncoder, parameters: ImportParameters, patch: int, source: Path | str
) -> int:
    if parameters.field_of_view_voxels is not None:
        return parameters.field_of_view_voxels
    if foreign.kind != "SpatialDINO" or foreign.positions is None:
        return 112
    count = len(foreign.positions)
    side = round(count ** (1 / 3))
    if side**3 != count:
        _refuse(
            source,
            f"{count} learned positions, which fill no cube",
            "a cubic grid of them, whose side is that of the field of view",
            f"{REMEDY} To drop them, say --positions none and --field-of-view-voxels.",
        )
    return side * patch


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
        wrong, expected = problems_of(error)
        whole = f"{width} features per token and {parameters.heads or width // HEAD_DIM} heads"
        found = wrong if "=" in wrong else whole
        _refuse(source, found, expected, "Check the number of heads (--heads).")
    if architecture.mlp_dim != hidden:
        _refuse(
            source, f"a {architecture.feed_forward} of {hidden} hidden features", "a multiple of 8", REMEDY
        )
    return architecture


def _refuse(source: Path | str, found: str, expected: str, remedy: str) -> NoReturn:
    raise BadInputError(source, found=found, expected=expected, remedy=remedy)
