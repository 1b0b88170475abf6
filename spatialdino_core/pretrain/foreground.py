"""Foreground of crops that nobody has labelled: patches with a spot that stands out of its own crop.

For watching training on real data. Where there is truth (simulations), use the truth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from torch import Tensor

from spatialdino_core.statistics import MAD_TO_SIGMA

SPOT_VOXELS = 1.2
SURROUND_RATIO = 1.6
NOISE_DEVIATIONS = 6.0


def foreground_labels(
    views: Tensor, patch_voxels: int, spot_voxels: float = SPOT_VOXELS
) -> NDArray[np.bool_]:
    """Patches that hold the top of a spot of the size of the point spread function.

    A difference of Gaussians matched to the spot is thresholded at 6 robust standard deviations (from the
    median absolute deviation) of its own values over the whole view, and a patch is foreground if one
    of its voxels is above that and larger than its neighbours.

    What it can show: the filter sees across the faces of a patch and the threshold is that of the view, so
    mean, spread and maximum of the patch alone do not know it (a bright haze is background, a dim spot in
    a dark crop is foreground), while a patch token that has looked at the whole view can. A probe that
    rises above raw intensity has learned small structures against their surroundings. What it cannot
    show: it is no truth. Spots below the threshold count as background, dense clusters raise the
    deviation they are measured by, and large structures are not seen at all. It compares
    steps of one training, not models trained on other data.

    Parameters
    ----------
    views
        (n, C, Z, Y, X); a patch is foreground if any channel says so.
    patch_voxels
        Side of a patch; the sides of a view are multiples of it.
    spot_voxels
        Standard deviation of a spot, voxels.

    Returns
    -------
    numpy.ndarray
        (n, N) bool in the raster order of patch tokens.

    References
    ----------
    Marr and Hildreth, Theory of Edge Detection, Proc. R. Soc. B 1980: a ratio of 1.6 between the Gaussians
    approximates the Laplacian.
    """
    volumes = views.float().cpu().numpy()
    n, _, *sides = volumes.shape
    z, y, x = (side // patch_voxels for side in sides)
    tops = np.stack([np.any([_tops(c, spot_voxels) for c in view], axis=0) for view in volumes])
    cut = tops.reshape(n, z, patch_voxels, y, patch_voxels, x, patch_voxels)
    return cut.any(axis=(2, 4, 6)).reshape(n, z * y * x)


def _tops(volume: NDArray[np.float32], spot_voxels: float) -> NDArray[np.bool_]:
    """(Z, Y, X) bool: voxels that stand out of the noise and above their neighbours."""
    spots = gaussian_filter(volume, spot_voxels) - gaussian_filter(volume, SURROUND_RATIO * spot_voxels)
    middle = np.median(spots)
    deviation = MAD_TO_SIGMA * np.median(np.abs(spots - middle))
    return (spots > middle + NOISE_DEVIATIONS * deviation) & (spots == maximum_filter(spots, 3))
