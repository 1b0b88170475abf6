"""The object table: one row per labelled particle of a frame, with its measurements.

Positions, heights and uncertainties come from the fit (:mod:`.localise`), sizes and sums from the labels.
Features of the encoder are joined to this table elsewhere.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from spatialdino_core.segment.detections import Detections
from spatialdino_core.segment.measure.instances import Labels
from spatialdino_core.segment.volume import Foreground, Volume

COLUMNS = (
    "label",
    "z",
    "y",
    "x",
    "z_um",
    "y_um",
    "x_um",
    "volume_um3",
    "intensity_mean",
    "intensity_sum",
    "amplitude",
    "background",
    "snr",
    "z_score",
    "detection_confidence",
    "foreground",
    "localisation_z_um",
    "localisation_y_um",
    "localisation_x_um",
    "localisation_um",
    "border_um",
)
"""Columns of the object table. Positions are voxel centres, intensities are camera
counts.

``intensity_mean``, ``intensity_sum``
    Mean and sum over the object's voxels, minus ``background``.
``amplitude``, ``background``
    Height of the fitted Gaussian and the level it stands on.
``snr``
    ``amplitude`` over the standard deviation of the fit's residual: what one voxel at the peak stands out by.
``z_score``
    Significance of the detection: the detector's response over its local noise.
``detection_confidence``
    Probability that the detection is a particle (:mod:`..believe.evidence`).
``foreground``
    Mean foreground probability of the object's voxels; NaN without one.
``localisation_*_um``
    Standard deviation of the position per axis; ``localisation_um`` is the root of the sum of squares.
``border_um``
    Distance of the centroid from the nearest border of the frame or of the valid region, at least 0.
"""


def object_table(
    volume: Volume, labels: Labels, foreground: Foreground | None, spots: Detections
) -> pd.DataFrame:
    """Measure every labelled spot.

    Parameters
    ----------
    volume
        The frame.
    labels
        Of ``spots``, each of which owns at least one voxel.
    foreground
        Foreground probability on the frame's grid, or None.
    spots
        Fitted in the frame.

    Returns
    -------
    pandas.DataFrame
        :data:`COLUMNS`, float64 but for the int64 ``label``, sorted by label.
    """
    size = np.array(volume.voxel_um)
    count = labels.sizes
    total = labels.sums(volume.image[labels.index]) - count * spots.background
    uncertainty = np.sqrt(np.maximum(spots.variance, 0)) * size
    with np.errstate(divide="ignore"):
        snr = np.where(spots.noise > 0, spots.amplitude / spots.noise, np.nan)
    table = {
        "label": np.arange(1, len(count) + 1, dtype=np.int64),
        **dict(zip("zyx", spots.position.T, strict=True)),
        **dict(zip(("z_um", "y_um", "x_um"), (spots.position * size).T, strict=True)),
        "volume_um3": count * float(np.prod(size)),
        "intensity_mean": total / count,
        "intensity_sum": total,
        "amplitude": spots.amplitude,
        "background": spots.background,
        "snr": snr,
        "z_score": spots.z_score,
        "detection_confidence": spots.confidence,
        "foreground": _mean_foreground(foreground, labels),
        **{f"localisation_{axis}_um": uncertainty[:, a] for a, axis in enumerate("zyx")},
        "localisation_um": np.linalg.norm(uncertainty, axis=1),
        "border_um": _border_distance(spots.position, volume),
    }
    return pd.DataFrame(table, columns=list(COLUMNS))


def _mean_foreground(foreground: Foreground | None, labels: Labels) -> np.ndarray:
    if foreground is None:
        return np.full(labels.objects, np.nan)
    return labels.sums(foreground[labels.index]) / labels.sizes


def _border_distance(position: np.ndarray, volume: Volume) -> np.ndarray:
    """Distance (µm) to the outer faces of the frame, or to the centre of the nearest invalid voxel."""
    faces = np.minimum(position + 0.5, np.array(volume.shape) - 0.5 - position) * np.array(volume.voxel_um)
    nearest = faces.min(axis=1, initial=np.inf)
    if volume.valid is not None and not volume.valid.all():
        nearest = np.minimum(nearest, _invalid_distance(position, volume, volume.valid))
    return np.maximum(nearest, 0)


def _invalid_distance(position: np.ndarray, volume: Volume, valid: np.ndarray) -> np.ndarray:
    """Distance (µm) of the voxels at positions (n, 3) from the nearest invalid one, beside a valid one."""
    beside = np.zeros(valid.shape, bool)
    for axis in range(3):
        source, target = np.moveaxis(valid, axis, 0), np.moveaxis(beside, axis, 0)
        target[1:] |= source[:-1]
        target[:-1] |= source[1:]
    full, size = np.array(valid.shape) > 1, np.array(volume.voxel_um)
    nearest = np.clip(np.round(position), 0, np.array(volume.shape) - 1)
    border = np.argwhere(beside & ~valid)
    distance, _ = cKDTree(border[:, full] * size[full]).query(nearest[:, full] * size[full])
    return np.where(volume.known_at(position), distance, 0)
