"""The batch of a step: which crops, which views of them, which masks. A function of seed and step alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialdino_core.errors import BadInputError
from spatialdino_core.pretrain.augment import change_intensity, draw_intensity, random_view
from spatialdino_core.pretrain.masking import view_masks
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.randomness import Purpose, numpy_generator
from spatialdino_core.pretrain.source import CropSource, check_crop

GLOBAL_VIEWS = 2


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
    chosen = crop_order(len(crops), parameters.batch_size, seed=seed, step=step)
    side, local_side = parameters.global_crop_voxels, parameters.local_crop_voxels
    big = _Views(GLOBAL_VIEWS, len(chosen), channels, side)
    small = _Views(parameters.local_crops, len(chosen), channels, local_side)
    for item, index in enumerate(chosen):
        crop = crops[index]
        check_crop(crop, index, channels, side)
        generator = numpy_generator(seed, Purpose.VIEWS, step, item)
        for views in (big, small):
            views.fill(item, crop, parameters, generator)
    grid = (side // patch_voxels,) * 3
    masks = view_masks(
        GLOBAL_VIEWS * len(chosen),
        grid,
        parameters.masked_share,
        (parameters.mask_ratio_min, parameters.mask_ratio_max),
        numpy_generator(seed, Purpose.MASKS, step),
    )
    global_views = big.finish()
    _check_finite(global_views, chosen)
    return Batch(global_views, small.finish(), torch.from_numpy(masks), chosen)


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


def crop_order(crops: int, batch_size: int, *, seed: int, step: int) -> list[int]:
    """Indices of the crops of one step: each epoch visits every crop once, in an order of its own."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    orders = {
        int(epoch): numpy_generator(seed, Purpose.ORDER, int(epoch)).permutation(crops)
        for epoch in np.unique(positions // crops)
    }
    return [int(orders[int(position // crops)][position % crops]) for position in positions]


class _Views:
    """Views of one size, filled crop by crop, whose intensities are changed all at once."""

    def __init__(self, views: int, items: int, channels: int, side: int) -> None:
        shape = (views, items, channels, side, side, side)
        self.side = side
        self.voxels: NDArray[np.float32] = np.empty(shape, dtype=np.float32)
        self.noise: NDArray[np.float32] = np.empty(shape, dtype=np.float32)
        self.changes: NDArray[np.float32] = np.empty((views, items, 3), dtype=np.float32)

    def fill(
        self,
        item: int,
        crop: NDArray[np.float32],
        parameters: PretrainParameters,
        generator: np.random.Generator,
    ) -> None:
        for view in range(len(self.voxels)):
            self.voxels[view, item] = random_view(crop, self.side, generator)
            self.changes[view, item] = draw_intensity(parameters, generator)
            generator.standard_normal(dtype=np.float32, out=self.noise[view, item])

    def finish(self) -> Tensor:
        """(views * items, C, side, side, side)."""
        voxels, changes, noise = (torch.from_numpy(a) for a in (self.voxels, self.changes, self.noise))
        return change_intensity(voxels.flatten(0, 1), changes.flatten(0, 1), noise.flatten(0, 1))


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
