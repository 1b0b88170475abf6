"""Random views of a stored crop: place and orientation voxel by voxel, then intensity.

Crops are isotropic, so all 48 symmetries of the cube are equally likely (flips and quarter turns in
every plane), and they are normalised to [0, 1], so noise has a scale. Not the choice of crops.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spatialdino_core.pretrain.parameters import PretrainParameters


def random_view(
    crop: NDArray[np.float32], side_voxels: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Cut a cube at a random place and turn it into one of the 48 orientations of a cube.

    Parameters
    ----------
    crop
        (C, Z, Y, X), every side at least ``side_voxels``; may be a memory map.
    side_voxels
        Side of the cube.
    generator
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        (C, side, side, side), a view of ``crop``: nothing is copied.
    """
    starts = [int(generator.integers(0, length - side_voxels + 1)) for length in crop.shape[1:]]
    cube = crop[(slice(None), *(slice(start, start + side_voxels) for start in starts))]
    order = generator.permutation(3) + 1
    flips = tuple(slice(None, None, -1 if flip else 1) for flip in generator.random(3) < 0.5)
    return cube.transpose(0, *order)[(slice(None), *flips)]


def draw_intensity(parameters: PretrainParameters, generator: np.random.Generator) -> NDArray[np.float32]:
    """Draw the intensity change of one view: exponent, contrast factor, standard deviation of noise."""
    log_gamma = np.log(parameters.gamma_max)
    return np.array(
        [
            np.exp(generator.uniform(-log_gamma, log_gamma)),
            1 + generator.uniform(-parameters.contrast_change, parameters.contrast_change),
            generator.uniform(0, parameters.noise_max),
        ],
        dtype=np.float32,
    )


def change_intensity(views: Tensor, changes: Tensor, noise: Tensor) -> Tensor:
    """Apply exponent, contrast about the mean of each view and channel, and noise.

    Parameters
    ----------
    views
        (n, C, Z, Y, X) float32 in [0, 1].
    changes
        (n, 3) from `draw_intensity`.
    noise
        Standard normal, of the shape of ``views``; overwritten.

    Returns
    -------
    torch.Tensor
        Of the shape of ``views``. Noise may leave [0, 1]: clipping would bias a dark background.
    """
    gamma, contrast, sigma = (change.view(-1, 1, 1, 1, 1) for change in changes.unbind(1))
    bright = views.clamp(0, 1).pow_(gamma)
    mean = bright.mean(dim=(2, 3, 4), keepdim=True)
    return noise.mul_(sigma).add_(bright.sub_(mean).mul_(contrast).add_(mean))
