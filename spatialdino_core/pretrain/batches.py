"""The batch of a step: which crops, which views of them, which masks. A function of seed and step alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialdino_core.crops.augment import (
    IntensityChange,
    change_intensity,
    cut_cube,
    draw_change,
    draw_orientation,
    draw_start,
)
from spatialdino_core.crops.order import rank_order
from spatialdino_core.crops.parameters import AugmentationParameters
from spatialdino_core.errors import BadInputError
from spatialdino_core.pretrain.masking import view_masks
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.randomness import Purpose, numpy_generator, torch_generator
from spatialdino_core.pretrain.source import CropSource, check_crop, shard_lengths

GLOBAL_VIEWS = 2
CHANGES = len(IntensityChange._fields)
Place = tuple[tuple[int, int], ...]  # first voxel and the one after the last, z, y, x


@dataclass(frozen=True)
class Batch:
    """Input of one optimiser step on B crops.

    Attributes
    ----------
    global_views
        (2 B, C, g, g, g), all first views, then all second views.
    local_views
        (n B, C, l, l, l), view by view; n may be 0.
    masks
        (2 B, N) bool, True where the student must guess a patch of a global view.
    crops
        Indices of the B crops.
    """

    global_views: Tensor
    local_views: Tensor
    masks: Tensor
    crops: list[int]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        views = (self.global_views.to(device), self.local_views.to(device), self.masks.to(device))
        return Batch(*views, self.crops)


def make_batch(
    crops: CropSource,
    parameters: PretrainParameters,
    patch_voxels: int,
    channels: int,
    *,
    seed: int,
    step: int,
) -> Batch:
    """Build the batch of one step.

    Parameters
    ----------
    crops
        Where the crops come from.
    parameters
        Batch size, view sizes, augmentation and masks.
    patch_voxels, channels
        Of the encoder.
    seed, step
        What the batch depends on, besides the crops.

    Raises
    ------
    BadInputError
        If a crop is too small, of the wrong type, or not finite; names the crop.
    """
    chosen = crop_order(shard_lengths(crops), parameters.batch_size, seed=seed, step=step)
    side, local_side = parameters.global_crop_voxels, parameters.local_crop_voxels
    augmentation = parameters.augmentation
    big = _Views(GLOBAL_VIEWS, len(chosen), channels, side, noisy=True)
    small = _Views(
        parameters.local_crops, len(chosen), channels, local_side, noisy=augmentation.noise_views == "all"
    )
    for item, index in enumerate(chosen):
        crop = crops[index]
        check_crop(crop, index, channels, side)
        generator = numpy_generator(seed, Purpose.VIEWS, step, item)
        places = big.fill(item, crop, augmentation, generator)
        small.fill(item, crop, augmentation, generator, places if augmentation.local_inside_global else None)
    grid = (side // patch_voxels,) * 3
    masks = view_masks(
        GLOBAL_VIEWS * len(chosen),
        grid,
        parameters.masked_share,
        (parameters.mask_ratio_min, parameters.mask_ratio_max),
        numpy_generator(seed, Purpose.MASKS, step),
    )
    photons = torch_generator(seed, Purpose.VIEWS, step)
    global_views = big.finish(photons)
    _check_finite(global_views, chosen)
    return Batch(global_views, small.finish(photons), torch.from_numpy(masks), chosen)


def batches(
    crops: CropSource,
    parameters: PretrainParameters,
    patch_voxels: int,
    channels: int,
    *,
    seed: int,
    start: int,
) -> Iterator[Batch]:
    """Batches from step ``start`` to the last, the next one built while the current one is used."""

    def build(step: int) -> Batch:
        return make_batch(crops, parameters, patch_voxels, channels, seed=seed, step=step)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as builder:
        following = builder.submit(build, start) if start < parameters.steps else None
        for step in range(start, parameters.steps):
            assert following is not None
            batch = following.result()
            following = builder.submit(build, step + 1) if step + 1 < parameters.steps else None
            yield batch


def crop_order(lengths: Sequence[int], batch_size: int, *, seed: int, step: int) -> list[int]:
    """Indices of the crops of one step: each epoch visits every crop once, in an order of its own.

    Parameters
    ----------
    lengths
        Crops of each shard, which is read from its beginning to its end; see `worker_order`.
    """
    crops = sum(lengths)
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // crops
    orders = {int(epoch): _epoch_order(tuple(lengths), seed, int(epoch)) for epoch in np.unique(epochs)}
    return [
        int(orders[int(epoch)][position % crops]) for epoch, position in zip(epochs, positions, strict=True)
    ]


@functools.lru_cache(maxsize=4)
def _epoch_order(lengths: tuple[int, ...], seed: int, epoch: int) -> NDArray[np.intp]:
    return rank_order(lengths, seed=seed, epoch=epoch)[0]


class _Views:
    """Views of one size, filled crop by crop, whose intensities are changed all at once."""

    def __init__(self, views: int, items: int, channels: int, side: int, *, noisy: bool) -> None:
        shape = (views, items, channels, side, side, side)
        self.side = side
        self.voxels: NDArray[np.float32] = np.empty(shape, dtype=np.float32)
        self.noise: NDArray[np.float32] | None = np.empty(shape, dtype=np.float32) if noisy else None
        self.changes: NDArray[np.float32] = np.empty((views, items, CHANGES), dtype=np.float32)

    def fill(
        self,
        item: int,
        crop: NDArray[np.float32],
        augmentation: AugmentationParameters,
        generator: np.random.Generator,
        within: Sequence[Place] | None = None,
    ) -> list[Place]:
        """Views of one crop; within one of the places, if any are given. Returns where they lie."""
        places = []
        for view in range(len(self.voxels)):
            shown = _shown_channels(crop, self.voxels.shape[2], generator)
            around = within[int(generator.integers(len(within)))] if within else None
            start = draw_start(generator, crop.shape[1:], self.side, around)
            orientation = draw_orientation(generator, augmentation.axial_axis)
            self.voxels[view, item] = cut_cube(shown, start, self.side, orientation)
            noisy = self.noise is not None
            self.changes[view, item] = draw_change(augmentation, generator, noisy=noisy)
            if self.noise is not None:
                generator.standard_normal(dtype=np.float32, out=self.noise[view, item])
            places.append(tuple((first, first + self.side) for first in start))
        return places

    def finish(self, photons: torch.Generator) -> Tensor:
        """(views * items, C, side, side, side)."""
        voxels, changes = (torch.from_numpy(a).flatten(0, 1) for a in (self.voxels, self.changes))
        noise = None if self.noise is None else torch.from_numpy(self.noise).flatten(0, 1)
        return change_intensity(voxels, changes, noise, photons)


def _shown_channels(
    crop: NDArray[np.float32], channels: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """A random channel of a crop that has several, for an encoder of one; else all."""
    if crop.shape[0] == channels:
        return crop
    channel = int(generator.integers(crop.shape[0]))
    return crop[channel : channel + 1]


def _check_finite(views: Tensor, chosen: list[int]) -> None:
    if views.isfinite().all():
        return
    bad = (~views.flatten(1).isfinite().all(dim=1)).nonzero().flatten().tolist()
    names = sorted({chosen[view % len(chosen)] for view in bad})
    raise BadInputError(
        f"training crops {names}",
        found="NaN or infinite voxels",
        expected="finite intensities normalised to [0, 1]",
        remedy="Find the movie of these crops in the crop index and exclude or repair it.",
    )
