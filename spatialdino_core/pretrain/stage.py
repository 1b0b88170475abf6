"""Pretrain on the shards of all training movies: the stage around ``loop.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.crops.shards import CropShards, OnCorrupt
from spatialdino_core.crops.source import CropDescription
from spatialdino_core.device import choose_device
from spatialdino_core.encoder.contract import trained_images
from spatialdino_core.encoder.header import read_header
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.provenance import software
from spatialdino_core.parameters import digest
from spatialdino_core.pretrain.loop import pretrain
from spatialdino_core.pretrain.parameters import PretrainParameters


def pretrain_model(
    indices: Sequence[str],
    output: Path | str,
    parameters: PretrainParameters,
    architecture: EncoderParameters,
    normalisation: NormalisationParameters,
    *,
    seed: int,
    device: str,
    version: str,
    on_corrupt_shard: OnCorrupt = "fail",
) -> None:
    """Train an encoder and publish ``pretrained.safetensors``.

    Parameters
    ----------
    indices
        Shard indices of the training movies.
    output
        Weights to publish; metrics and checkpoints lie beside them.
    version
        The user's name of the model; another name trains anew.
    on_corrupt_shard
        Whether a damaged shard ends training (``fail``) or is left out (``skip``).
    """
    learned, looked_at = split_movies(indices, parameters.held_out_share)
    crops = CropShards(learned, on_corrupt=on_corrupt_shard)
    held_out = CropShards(looked_at, on_corrupt=on_corrupt_shard) if looked_at else None
    voxel_um = _common_voxel(crops)
    if parameters.start_from:
        architecture = _architecture_of(Path(parameters.start_from), architecture, voxel_um)
    cut = {about["movie"]: list(about["bounds"]) for about in crops.abouts}
    mode = crops.abouts[0]["crops"]["channels"]
    description = CropDescription(
        voxel_um=(voxel_um, voxel_um, voxel_um),
        normalisation=asdict(normalisation),
        content_hash=digest(crops.content_hash, version),
        provenance={
            "name": version,
            "seed": seed,
            "movies": crops.abouts,
            "held_out_movies": [about["movie"] for about in held_out.abouts] if held_out else [],
            **software("pretrain"),
        },
        channels=trained_images(cut, mode, architecture.channels),
    )
    pretrain(
        crops,
        parameters,
        architecture,
        Path(output).parent,
        description=description,
        held_out=held_out,
        device=choose_device(device),
        seed=seed,
    )


def split_movies(indices: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """Indices of the movies to learn from, and of those that the collapse monitor only looks at.

    Which ones is decided by their names, so that another movie changes it for few. A movie is in one of
    the two lists, never in both.
    """
    ranked = sorted(indices, key=lambda index: digest(Path(index).parent.name))
    number = int(share * len(ranked))
    kept_out = set(ranked[:number])
    return [index for index in indices if index not in kept_out], ranked[:number]


def _architecture_of(start: Path, wanted: EncoderParameters, voxel_um: float) -> EncoderParameters:
    """Architecture of weights to go on from, with what of the config does not belong to weights."""
    header = read_header(start)
    if abs(header.voxel_um[0] - voxel_um) > 0.01 * voxel_um:
        raise BadInputError(
            start,
            found=f"weights for voxels of {header.voxel_um[0]:g} µm",
            expected=f"{voxel_um:g} µm, as the training crops have",
            remedy=f"Set crops.voxel_um to {header.voxel_um[0]:g}.",
        )
    return replace(
        header.architecture, drop_path=wanted.drop_path, test_time_registers=wanted.test_time_registers
    )


def _common_voxel(crops: CropShards) -> float:
    if not len(crops):
        raise BadInputError(
            "training crops",
            found="none",
            expected="crops of at least one movie",
            remedy="Mark a movie with train = yes, or set model.source to bundled or file.",
        )
    sizes: dict[str, Any] = {about["movie"]: about["voxel_um"] for about in crops.abouts}
    if len({tuple(size) for size in sizes.values()}) > 1:
        raise BadInputError(
            "training crops",
            found=f"voxel sizes {sizes} µm",
            expected="one voxel size in all training movies",
            remedy="Set crops.voxel_um in the config to resample them all to one size.",
        )
    return float(next(iter(sizes.values()))[0])
