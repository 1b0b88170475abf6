"""The room's work as MONAI dictionary transforms: scale, voxels, crops, views, intensities.

For pipelines of others, ``{"image": (C, Z, Y, X)}``; the workflow itself calls the functions behind them,
a batch at a time. MONAI's own flips, rotations and noise would draw the same pictures, in four times the
time; its contrast adjustment would not: it scales each sample by its minimum and maximum again, so that
one hot voxel sets the exponent's effect.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, MultiSampleTrait, Randomizable
from monai.utils import convert_to_dst_type, convert_to_numpy, convert_to_tensor, ensure_tuple
from torch import Tensor

from spatialdino_core.crops.augment import (
    change_intensity,
    cut_cube,
    draw_change,
    draw_orientation,
    draw_start,
)
from spatialdino_core.crops.kmeans import crop_boxes, cut_crop
from spatialdino_core.crops.normalise import Scale, normalise
from spatialdino_core.crops.parameters import AugmentationParameters, CropParameters
from spatialdino_core.crops.resample import resample_isotropic

Sample = dict[Hashable, Any]


class NormaliseIntensityd(MapTransform):
    """Camera counts (C, Z, Y, X) to [0, 1], by the same scale for all channels."""

    def __init__(self, keys: KeysCollection, scale: Scale, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scale = scale

    def __call__(self, data: Mapping[Hashable, Any]) -> Sample:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = normalise(convert_to_numpy(result[key]), self.scale)
        return result


class ResampleIsotropicd(MapTransform):
    """Cubic voxels for (C, Z, Y, X); the voxel size under ``voxel_key`` changes with them.

    A sample whose voxels have the target size already is left as it is, so that it is never resampled
    twice.
    """

    def __init__(
        self,
        keys: KeysCollection,
        target_um: float,
        voxel_key: Hashable = "voxel_um",
        device: torch.device | str = "cpu",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.target_um, self.voxel_key, self.device = target_um, voxel_key, device

    def __call__(self, data: Mapping[Hashable, Any]) -> Sample:
        result = dict(data)
        voxel_um = result[self.voxel_key]
        for key in self.key_iterator(result):
            channels = convert_to_numpy(result[key])
            isotropic = [
                resample_isotropic(channel, voxel_um, self.target_um, device=self.device)
                for channel in channels
            ]
            result[key] = np.stack(isotropic)
        result[self.voxel_key] = (self.target_um,) * 3
        return result


class KMeansCropSamplesd(Randomizable, MapTransform, MultiSampleTrait):
    """Crops on the clusters of bright voxels: one sample in, ``crops_per_frame`` samples out.

    Parameters
    ----------
    keys
        Volumes (C, Z, Y, X) to crop, all of one shape, of isotropic voxels.
    source_key
        The one in [0, 1] whose mean over channels tells where it is bright.
    parameters
        Where and how large; see `crop_boxes`.
    valid_key
        Bool (Z, Y, X): where there are data; by default everywhere.

    Notes
    -----
    ``{key}_box`` of each sample is its `CropBox`, which says what the crop was placed on.
    """

    def __init__(
        self,
        keys: KeysCollection,
        source_key: Hashable,
        parameters: CropParameters,
        valid_key: Hashable | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.source_key, self.valid_key, self.parameters = source_key, valid_key, parameters

    def randomize(self, data: Mapping[Hashable, Any]) -> None:
        """Draw the boxes."""
        volume = convert_to_numpy(data[self.source_key]).mean(axis=0, dtype=np.float32)
        valid = np.ones(volume.shape, bool)
        if self.valid_key is not None:
            valid = convert_to_numpy(data[self.valid_key])
        self.boxes = crop_boxes(volume, valid, self.parameters, _generator(self.R))

    def __call__(self, data: Mapping[Hashable, Any]) -> list[Sample]:
        self.randomize(data)
        samples = []
        for box in self.boxes:
            sample = dict(data)
            for key in self.key_iterator(sample):
                crop = cut_crop(convert_to_numpy(data[key]), box)
                sample[key] = convert_to_dst_type(crop.copy(), data[key])[0]
                sample[f"{key}_box"] = box
            samples.append(sample)
        return samples


class RandomViewsd(Randomizable, MapTransform):
    """Global and local views of a crop, turned and mirrored: keys ``{key}_global`` and ``{key}_local``.

    Parameters
    ----------
    keys
        Crops (C, Z, Y, X), on any device.
    global_voxels, local_voxels
        Sides of the cubic views.
    global_views, local_views
        How many.
    parameters
        Axial axis, and whether local views lie inside global ones.
    """

    def __init__(
        self,
        keys: KeysCollection,
        parameters: AugmentationParameters,
        *,
        global_voxels: int = 112,
        local_voxels: int = 48,
        global_views: int = 2,
        local_views: int = 8,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.parameters = parameters
        self.sides = {"global": global_voxels, "local": local_voxels}
        self.counts = {"global": global_views, "local": local_views}

    def __call__(self, data: Mapping[Hashable, Any]) -> Sample:
        result = dict(data)
        generator = _generator(self.R)
        for key in self.key_iterator(data):
            crop: Tensor = convert_to_tensor(data[key])
            placed: list[list[tuple[int, int]]] = []
            for name, side in self.sides.items():
                views = []
                for _ in range(self.counts[name]):
                    inside = None
                    if name == "local" and self.parameters.local_inside_global and placed:
                        inside = placed[int(generator.integers(len(placed)))]
                    start = draw_start(generator, crop.shape[1:], side, inside)
                    if name == "global":
                        placed.append([(s, s + side) for s in start])
                    turned = draw_orientation(generator, self.parameters.axial_axis)
                    views.append(cut_cube(crop, start, side, turned))
                result[f"{key}_{name}"] = torch.stack(views) if views else torch.empty(0)
        return result


class RandomIntensityd(Randomizable, MapTransform):
    """Gamma, contrast and noise, and what else is on, for views (n, C, Z, Y, X), each changed by itself.

    Parameters
    ----------
    keys
        Views in [0, 1], on any device.
    parameters
        What is drawn, and from which range.
    noisy_keys
        Those that get noise, by default all: with ``noise_views: global``, the global views.
    """

    def __init__(
        self,
        keys: KeysCollection,
        parameters: AugmentationParameters,
        noisy_keys: KeysCollection | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.parameters = parameters
        self.noisy = set(self.keys if noisy_keys is None else ensure_tuple(noisy_keys))

    def __call__(self, data: Mapping[Hashable, Any]) -> Sample:
        result = dict(data)
        for key in self.key_iterator(data):
            views: Tensor = convert_to_tensor(data[key], dtype=torch.float32)
            generator, noisy = _generator(self.R), key in self.noisy
            drawn = [draw_change(self.parameters, generator, noisy=noisy) for _ in range(len(views))]
            seeds = generator.integers(2**63, size=len(views)).tolist()
            result[key] = change_intensity(views, torch.tensor(drawn, dtype=torch.float32), seeds)
        return result


def _generator(state: np.random.RandomState) -> np.random.Generator:
    """A generator of one call's numbers, from the state that ``set_random_state`` sets."""
    return np.random.default_rng(state.randint(2**32, size=4, dtype=np.uint32))
