"""Content-aware crop positions: cluster the bright voxels and put a crop on each cluster.

Random positions in a sparse volume show mostly background, and the encoder then learns background.
"""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans

from spatialdino_core.crops.parameters import CropParameters

MOST_VOXELS = 5000  # enough for stable centres, and KMeans stays below a second


def crop_origins(
    volume: np.ndarray, valid: np.ndarray, parameters: CropParameters, generator: np.random.Generator
) -> np.ndarray:
    """First voxels of the crops of one frame.

    Parameters
    ----------
    volume
        Isotropic, normalised (z, y, x).
    valid
        Bool, same shape: where there are data.
    parameters
        ``crops_per_frame`` boxes of ``crop_voxels`` are placed.
    generator
        Source of all randomness.

    Returns
    -------
    numpy.ndarray
        (crops, 3) int, inside the volume where it is large enough, else 0 along that axis. A
        volume without contrast gets random positions.
    """
    voxels = volume[valid]
    low, high = np.percentile(voxels, [parameters.low_percentile, parameters.high_percentile])
    chosen = np.argwhere(valid & (volume > low) & (volume <= high))
    if len(chosen) < parameters.crops_per_frame:
        chosen = np.argwhere(valid)
    if len(chosen) > MOST_VOXELS:
        chosen = chosen[generator.choice(len(chosen), MOST_VOXELS, replace=False)]
    seed = int(generator.integers(2**31))
    clusters = min(parameters.crops_per_frame, len(np.unique(chosen, axis=0)))
    centres = KMeans(clusters, n_init=1, random_state=seed).fit(chosen).cluster_centers_
    side = parameters.crop_voxels
    most = np.maximum(np.array(volume.shape) - side, 0)
    return np.clip(np.rint(centres - side / 2).astype(int), 0, most)


def cut_crop(volume: np.ndarray, origin: np.ndarray, side: int) -> np.ndarray:
    """Crop of ``side`` voxels from ``origin`` on; a volume that is too small is reflected at its far edge."""
    crop = volume[tuple(slice(o, o + side) for o in origin)]
    missing = [(0, side - n) for n in crop.shape]
    return np.pad(crop, missing, mode="symmetric") if any(m for _, m in missing) else crop
