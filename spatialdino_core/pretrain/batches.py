"""The batch of a step: which crops, which views of them, which masks.

Everything about a crop's views follows from the seed, the step and its place in the batch of the step,
so that a batch is the same however many processes and micro-batches share it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
from spatialdino_core.crops.order import epoch_order
from spatialdino_core.crops.parameters import AugmentationParameters
from spatialdino_core.crops.source import CropSource, check_crop, shard_lengths
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import draw_branch_factors
from spatialdino_core.pretrain.distributed import World
from spatialdino_core.pretrain.masking import block_mask, masked_counts, masked_views, patch_means
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.randomness import Purpose, numpy_generator, torch_generator

GLOBAL_VIEWS = 2
CHANGES = len(IntensityChange._fields)
Place = tuple[tuple[int, int], ...]  # first voxel and the one after the last, z, y, x


@dataclass(frozen=True)
class Views:
    """Views of one size, cut and turned; their intensities change on the device that learns.

    Attributes
    ----------
    voxels
        (n, C, s, s, s) float32, view by view.
    changes
        (n, 9), the fields of `IntensityChange`, on the CPU.
    seeds
        What photons and noise of each view are drawn from.
    branch_factors
        (depth, 2, n) of stochastic depth, or None.
    """

    voxels: Tensor
    changes: Tensor
    seeds: list[int]
    branch_factors: Tensor | None

    def __len__(self) -> int:
        return len(self.voxels)

    def to(self, device: torch.device) -> Views:
        """The same views on another device."""
        factors = self.branch_factors
        return replace(
            self,
            voxels=self.voxels.to(device, non_blocking=True),
            branch_factors=None if factors is None else factors.to(device),
        )

    def changed(self) -> Views:
        """With intensities changed."""
        return replace(self, voxels=change_intensity(self.voxels, self.changes, self.seeds))


@dataclass(frozen=True)
class Batch:
    """Input of one micro-batch of B crops.

    Attributes
    ----------
    global_views
        2 B views, all first views, then all second views.
    local_views
        n B views, view by view; n may be 0.
    masks
        (2 B, N) bool, True where the student must guess a patch of a global view.
    masked_views
        How many of the 2 B views are masked, on average over the micro-batches of the step.
    crops
        Indices of the B crops.
    """

    global_views: Views
    local_views: Views
    masks: Tensor
    masked_views: float
    crops: list[int]

    def pin_memory(self) -> Batch:
        """In memory from which a GPU copies while it computes; for the loader."""
        pinned = [replace(v, voxels=v.voxels.pin_memory()) for v in (self.global_views, self.local_views)]
        return replace(self, global_views=pinned[0], local_views=pinned[1], masks=self.masks.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            global_views=self.global_views.to(device),
            local_views=self.local_views.to(device),
            masks=self.masks.to(device, non_blocking=True),
        )

    def changed(self) -> Batch:
        """With the intensities of all views changed."""
        return replace(self, global_views=self.global_views.changed(), local_views=self.local_views.changed())


def make_batch(
    crops: CropSource,
    parameters: PretrainParameters,
    architecture: EncoderParameters,
    *,
    seed: int,
    step: int,
    part: int = 0,
    parts: int = 1,
) -> Batch:
    """Build one micro-batch of a step, its intensities not yet changed.

    Parameters
    ----------
    crops
        Where the crops come from.
    parameters
        Batch size, view sizes, augmentation and masks.
    architecture
        Of the encoder: patches, channels, stochastic depth.
    seed, step
        What the batch depends on, besides the crops.
    part, parts
        Which of how many equal parts of the step's batch.

    Raises
    ------
    BadInputError
        If a crop is too small or of the wrong type; names the crop.
    """
    size, share = parameters.batch_size, parameters.batch_size // parts
    items = range(part * share, (part + 1) * share)
    order = crop_order(shard_lengths(crops), size, seed=seed, step=step)
    chosen = [order[item] for item in items]
    augmentation = parameters.augmentation
    channels, side = architecture.channels, parameters.global_crop_voxels
    big = _Cutting(GLOBAL_VIEWS, share, channels, side, noisy=True)
    noisy = augmentation.noise_views == "all"
    small = _Cutting(parameters.local_crops, share, channels, parameters.local_crop_voxels, noisy=noisy)
    for row, (item, index) in enumerate(zip(items, chosen, strict=True)):
        crop = crops[index]
        check_crop(crop, index, channels, side)
        generator = numpy_generator(seed, Purpose.VIEWS, step, item)
        places = big.fill(row, crop, augmentation, generator)
        small.fill(row, crop, augmentation, generator, places if augmentation.local_inside_global else None)
    factors = _branch_factors(parameters, architecture, seed, step)
    shown = _views_of(items, GLOBAL_VIEWS, size), _views_of(items, parameters.local_crops, size)
    return Batch(
        big.views(None if factors is None else factors[0][..., shown[0]]),
        small.views(None if factors is None else factors[1][..., shown[1]]),
        torch.from_numpy(_masks(big, parameters, architecture, seed, step, shown[0])),
        masked_views(GLOBAL_VIEWS * size, parameters.masked_share) / parts,
        chosen,
    )


def step_batches(
    crops: CropSource,
    parameters: PretrainParameters,
    architecture: EncoderParameters,
    step: int,
    *,
    seed: int,
    world: World,
) -> list[Batch]:
    """The micro-batches of one process in one step."""
    each = parameters.accumulation
    numbers = range(world.rank * each, (world.rank + 1) * each)
    parts = each * world.ranks
    return [
        make_batch(crops, parameters, architecture, seed=seed, step=step, part=part, parts=parts)
        for part in numbers
    ]


def crop_order(lengths: Sequence[int], batch_size: int, *, seed: int, step: int) -> list[int]:
    """Indices of the crops of one step: each epoch visits every crop once, in an order of its own.

    Parameters
    ----------
    lengths
        Crops of each shard, which is read from its beginning to its end; see `epoch_order`.
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
    return epoch_order(lengths, seed=seed, epoch=epoch)


def _views_of(items: range, views: int, batch_size: int) -> list[int]:
    """Numbers, among all views of the step's batch, of the views of some of its items."""
    return [view * batch_size + item for view in range(views) for item in items]


def _branch_factors(
    parameters: PretrainParameters, architecture: EncoderParameters, seed: int, step: int
) -> tuple[Tensor, Tensor] | None:
    """Factors of all global and all local views of a step; None without stochastic depth."""
    if architecture.drop_path == 0:
        return None
    generator = torch_generator(seed, Purpose.STOCHASTIC_DEPTH, step)
    views = (GLOBAL_VIEWS * parameters.batch_size, parameters.local_crops * parameters.batch_size)
    big, small = (draw_branch_factors(architecture, number, generator) for number in views)
    return big, small


def _masks(
    cut: _Cutting,
    parameters: PretrainParameters,
    architecture: EncoderParameters,
    seed: int,
    step: int,
    shown: Sequence[int],
) -> NDArray[np.bool_]:
    """Masks of some global views of the step, (len(shown), N) in raster order."""
    side = parameters.global_crop_voxels // architecture.patch_voxels
    grid = (side, side, side)
    counts = masked_counts(
        GLOBAL_VIEWS * parameters.batch_size,
        side**3,
        parameters.masked_share,
        (parameters.mask_ratio_min, parameters.mask_ratio_max),
        numpy_generator(seed, Purpose.MASKS, step),
    )
    masks = np.zeros((len(shown), side**3), dtype=bool)
    for row, view in enumerate(shown):
        if counts[view]:
            masks[row] = block_mask(
                grid,
                int(counts[view]),
                numpy_generator(seed, Purpose.MASKS, step, view),
                patch_means(cut.voxels.reshape(-1, *cut.voxels.shape[2:])[row], architecture.patch_voxels),
                parameters.mask_foreground_bias,
            ).ravel()
    return masks


class _Cutting:
    """Views of one size, filled crop by crop."""

    def __init__(self, views: int, items: int, channels: int, side: int, *, noisy: bool) -> None:
        self.side, self.noisy = side, noisy
        self.voxels: NDArray[np.float32] = np.empty((views, items, channels, side, side, side), np.float32)
        self.changes: NDArray[np.float32] = np.empty((views, items, CHANGES), np.float32)
        self.seeds: NDArray[np.int64] = np.empty((views, items), np.int64)

    def fill(
        self,
        row: int,
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
            self.voxels[view, row] = cut_cube(shown, start, self.side, orientation)
            self.changes[view, row] = draw_change(augmentation, generator, noisy=self.noisy)
            self.seeds[view, row] = generator.integers(2**63)
            places.append(tuple((first, first + self.side) for first in start))
        return places

    def views(self, branch_factors: Tensor | None) -> Views:
        """All of them, view by view."""
        voxels, changes = (torch.from_numpy(a).flatten(0, 1) for a in (self.voxels, self.changes))
        return Views(voxels, changes, self.seeds.ravel().tolist(), branch_factors)


def _shown_channels(
    crop: NDArray[np.float32], channels: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """A random channel of a crop that has several, for an encoder of one; else all."""
    if crop.shape[0] == channels:
        return crop
    channel = int(generator.integers(crop.shape[0]))
    return crop[channel : channel + 1]
