"""What training and repair ask of crops, and the check that they keep it. Not where crops come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError


class CropSource(Protocol):
    """A sequence of crops: float16 or float32 (C, Z, Y, X), normalised to [0, 1], of isotropic voxels.

    Every axis z, y, x is at least as long as a global view. Items may be memory maps: only the voxels
    of a view are read. A source whose crops lie in several files says so in an attribute
    ``shard_lengths``, the crops of each, and may name its crops with a method ``key``.
    """

    def __len__(self) -> int:
        """Number of crops."""

    def __getitem__(self, index: int, /) -> NDArray[Any]:
        """The crop with this index."""


@dataclass(frozen=True, kw_only=True)
class CropDescription:
    """What the weights' header must say about the crops.

    Attributes
    ----------
    voxel_um
        (z, y, x) voxel size in µm; isotropic.
    normalisation
        How intensities were brought to [0, 1], as JSON values.
    content_hash
        Fingerprint of the crops; a run is only resumed on crops with the same one.
    provenance
        Where the crops come from (movies, versions, hashes), as JSON values.
    channels
        Names of the channels that they show: ``channels`` of the header.
    """

    voxel_um: tuple[float, float, float]
    normalisation: dict[str, Any]
    content_hash: str
    provenance: dict[str, Any] = field(default_factory=dict)
    channels: tuple[tuple[str, ...], ...] = ()


def shard_lengths(crops: CropSource) -> list[int]:
    """Crops of each file of a source; a source that does not say is one file."""
    return list(getattr(crops, "shard_lengths", [len(crops)]))


def crop_names(crops: CropSource, indices: Sequence[int]) -> list[str]:
    """What crops are called, for messages; a source that does not say has numbers."""
    name = getattr(crops, "key", str)
    return [name(index) for index in indices]


def check_crop(crop: NDArray[Any], index: int, channels: int, side_voxels: int) -> None:
    """Refuse a crop of the wrong type or shape, or too small for a view of this side.

    For an encoder of one channel a crop may have several: each view shows one of them.

    Raises
    ------
    BadInputError
        Naming the crop.
    """
    fits = crop.ndim == 4 and channels in (1, crop.shape[0]) and min(crop.shape[1:]) >= side_voxels
    if not fits or crop.dtype not in (np.float16, np.float32):
        raise BadInputError(
            f"training crop {index}",
            found=f"{crop.dtype} of shape {crop.shape}",
            expected=f"float16 or float32 ({channels}, Z, Y, X) with every side >= {side_voxels} voxels",
            remedy="Cut larger crops, or lower pretrain.global_crop_voxels.",
        )


def check_source(crops: CropSource, channels: int, side_voxels: int, sample: int = 8) -> None:
    """Look at a few crops, evenly spread, before any long work begins.

    Raises
    ------
    BadInputError
        If there is no crop, or one of them has the wrong type, shape or intensity range.
    """
    if len(crops) == 0:
        raise BadInputError(
            "training crops",
            found="none",
            expected="at least one crop",
            remedy="Mark at least one movie with 'train: yes'.",
        )
    for index in np.unique(np.linspace(0, len(crops) - 1, sample).astype(int)):
        crop = crops[int(index)]
        check_crop(crop, int(index), channels, side_voxels)
        low, high = float(crop.min()), float(crop.max())
        if not (low >= 0 and high <= 1):
            raise BadInputError(
                f"training crop {index}",
                found=f"intensities from {low:g} to {high:g}",
                expected="finite intensities normalised to [0, 1]",
                remedy="Normalise the crops; raw camera counts make the augmentation meaningless.",
            )
