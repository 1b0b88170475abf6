"""Random views of a stored crop: place and orientation voxel by voxel, then intensity.

Crops are isotropic, so that views are turned and mirrored without interpolation, and normalised to
[0, 1], so that noise has a scale. The functions here work on whole batches; as dictionary transforms
for single samples they are in ``transforms.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialdino_core.crops.parameters import AugmentationParameters

AXES = "zyx"
Volume = TypeVar("Volume", NDArray[np.float32], Tensor)


class Orientation(NamedTuple):
    """One of the 48 symmetries of a cube: order of the axes z, y, x, then which are mirrored."""

    order: tuple[int, ...]
    flips: tuple[bool, ...]


class IntensityChange(NamedTuple):
    """Intensity change of one view.

    ``photons`` at intensity 1 of 0 stand for no counting of photons; ``ramp`` (z, y, x) is the rise of
    the background across the view.
    """

    gamma: float
    contrast: float
    noise: float
    blur_voxels: float
    remaining: float
    photons: float
    ramp_z: float
    ramp_y: float
    ramp_x: float


def draw_start(
    generator: np.random.Generator,
    shape: Sequence[int],
    side: int,
    within: Sequence[tuple[int, int]] | None = None,
) -> tuple[int, ...]:
    """First voxel of a cube of ``side`` in a volume of ``shape``, or within (start, stop) of each axis."""
    ranges = within or [(0, length) for length in shape]
    return tuple(int(generator.integers(start, stop - side + 1)) for start, stop in ranges)


def draw_orientation(generator: np.random.Generator, axial_axis: str) -> Orientation:
    """Mirror along every axis with probability 1/2, and turn by quarters about the axial axis alone, or
    about any axis if it is ``none``: 16 or 48 equally likely orientations."""
    if axial_axis == "none":
        order = generator.permutation(3)
    else:
        order = np.arange(3)
        turned = [axis for axis in range(3) if AXES[axis] != axial_axis]
        order[turned] = generator.permutation(turned)
    return Orientation(tuple(order.tolist()), tuple((generator.random(3) < 0.5).tolist()))


def cut_cube(crop: Volume, start: Sequence[int], side: int, orientation: Orientation) -> Volume:
    """Cube of ``side`` voxels of (C, Z, Y, X) from ``start`` on, turned; of an array a view, nothing is
    copied, of a tensor a new one on the same device."""
    cube = crop[(slice(None), *(slice(s, s + side) for s in start))]
    order = (0, *(axis + 1 for axis in orientation.order))
    if isinstance(cube, Tensor):
        return cube.permute(order).flip([axis + 1 for axis in range(3) if orientation.flips[axis]])
    mirrored: tuple[Any, ...] = tuple(slice(None, None, -1 if flip else 1) for flip in orientation.flips)
    return cube.transpose(order)[(slice(None), *mirrored)]


def draw_change(
    parameters: AugmentationParameters, generator: np.random.Generator, *, noisy: bool = True
) -> IntensityChange:
    """Draw the intensity change of one view; what is off takes no random number.

    Parameters
    ----------
    noisy
        Whether noise is added to this view.
    """
    p = parameters
    gamma = np.exp(generator.uniform(np.log(p.gamma_min), np.log(p.gamma_max)))
    contrast = 1 + generator.uniform(-p.contrast_change, p.contrast_change)
    noise = generator.uniform(0, p.noise_max) if noisy else 0.0
    blur = generator.uniform(0, p.blur_max_voxels) if p.blur_max_voxels else 0.0
    remaining = 1 - generator.uniform(0, p.bleaching_max) if p.bleaching_max else 1.0
    photons = p.photons_min * 10 ** generator.uniform(0, 1) if p.photons_min else 0.0
    ramp = np.zeros(3)
    if p.gradient_max:
        direction = generator.standard_normal(3)
        ramp = direction / np.abs(direction).sum() * generator.uniform(0, p.gradient_max)
    return IntensityChange(gamma, contrast, noise, blur, remaining, photons, *ramp)


def change_intensity(views: Tensor, changes: Tensor, seeds: Sequence[int]) -> Tensor:
    """Change the intensities of views, in the order in which light does: optics, fluorophores, photons,
    background; then exponent, contrast about the mean of each view and channel, and noise.

    Parameters
    ----------
    views
        (n, C, Z, Y, X) float32 in [0, 1], on any device.
    changes
        (n, 9), the fields of `IntensityChange`; best on the CPU.
    seeds
        One for each view: what its photons and its noise are drawn from, on the device of ``views``,
        so that a view is the same in whichever batch it comes.

    Returns
    -------
    torch.Tensor
        Of the shape of ``views``. Noise may leave [0, 1]: clipping would bias a dark background.
    """
    columns = dict(
        zip(
            IntensityChange._fields,
            changes.to(views).view(*changes.shape, 1, 1, 1, 1).unbind(1),
            strict=True,
        )
    )
    drawn = dict(zip(IntensityChange._fields, changes.T.tolist(), strict=True))
    generators = [torch.Generator(views.device).manual_seed(seed) for seed in seeds]
    light = _blurred(views, drawn["blur_voxels"])
    if any(remaining != 1 for remaining in drawn["remaining"]):
        light = light * columns["remaining"]
    if any(drawn["photons"]):
        light = _counted(light, columns["photons"], generators)
    if changes[:, 6:].any():
        light = light + _ramps(changes[:, 6:].to(views), views.shape[2:])
    bright = light.clamp(0, 1).pow_(columns["gamma"])
    mean = bright.mean(dim=(2, 3, 4), keepdim=True)
    changed = bright.sub_(mean).mul_(columns["contrast"]).add_(mean)
    for view, sigma, generator in zip(changed, drawn["noise"], generators, strict=True):
        if sigma:
            noise = torch.randn(view.shape, generator=generator, device=view.device, dtype=view.dtype)
            view.add_(noise, alpha=sigma)
    return changed


def _blurred(views: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Gaussian blur, a standard deviation (voxels) for each view; edges are repeated."""
    if not any(sigmas):
        return views
    # Takes seconds to import, and blur is off by default.
    from monai.networks.layers import gaussian_1d, separable_filtering

    kernels = [gaussian_1d(torch.tensor(sigma), truncated=4.0).to(views) for sigma in sigmas]
    blurred = [
        separable_filtering(view[None], [kernel] * 3, mode="replicate")
        for view, kernel in zip(views, kernels, strict=True)
    ]
    return torch.cat(blurred)


def _counted(light: Tensor, photons: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Photons counted anew: Poisson of the expected number, back in intensities; where it is 0, none."""
    expected = light.clamp(min=0) * photons
    drawn = [torch.poisson(e, generator=g) for e, g in zip(expected, generators, strict=True)]
    counted = torch.stack(drawn) if drawn else expected
    return torch.where(photons > 0, counted / photons.clamp(min=1e-9), light)


def _ramps(rises: Tensor, shape: Sequence[int]) -> Tensor:
    """Linear backgrounds that are 0 at one corner of a view and never negative; (n, 1, Z, Y, X)."""
    total = rises.new_zeros(len(rises), 1, *shape)
    for axis, length in enumerate(shape):
        at = torch.linspace(0, 1, length, device=rises.device, dtype=rises.dtype)
        rise = rises[:, axis, None]
        line = rise * at + (-rise).clamp(min=0)
        along = [len(rises), 1, 1, 1, 1]
        along[2 + axis] = length
        total += line.view(along)
    return total
