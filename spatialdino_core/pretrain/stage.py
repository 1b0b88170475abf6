"""Pretrain on the shards of all training movies: the stage around ``loop.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.crops.shards import CropShards, OnCorrupt
from spatialdino_core.device import choose_device
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.provenance import software
from spatialdino_core.parameters import digest
from spatialdino_core.pretrain.loop import pretrain
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.source import CropDescription


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
    crops = CropShards(indices, on_corrupt=on_corrupt_shard)
    voxel_um = _common_voxel(crops)
    description = CropDescription(
        voxel_um=(voxel_um, voxel_um, voxel_um),
        normalisation=asdict(normalisation),
        content_hash=digest(crops.content_hash, version),
        provenance={"version": version, "seed": seed, "movies": crops.abouts, **software()},
    )
    pretrain(
        crops,
        parameters,
        architecture,
        Path(output).parent,
        description=description,
        device=choose_device(device),
        seed=seed,
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
