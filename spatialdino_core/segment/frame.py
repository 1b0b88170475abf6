"""Segmentation of one frame with the calibration of its movie: the front door of this room.

Frames are independent of each other, so they can be segmented in any order and resumed anywhere. Linking
them is the business of the track room.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pandas as pd

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.blobs import SUPPRESSION, Peaks, find_peaks, suppress
from spatialdino_core.segment.calibration import Calibration
from spatialdino_core.segment.filters import FILTER_TO_BLOB, psf_sigma_um
from spatialdino_core.segment.inputs import Voxel, check_frame, values_at
from spatialdino_core.segment.instances import label_spots
from spatialdino_core.segment.localise import Spots, fit_spots
from spatialdino_core.segment.objects import object_table
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.tiles import TILE_VOXELS


def segment_frame(
    frame: np.ndarray,
    voxel_um: Voxel,
    valid: np.ndarray | None,
    foreground: np.ndarray | None,
    calibration: Calibration,
    parameters: SegmentParameters,
    *,
    where: str = "frame",
    tile_voxels: int = TILE_VOXELS,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Detect, label and measure the particles of one frame.

    Parameters
    ----------
    frame
        Intensities (z, y, x), uint16 or float32.
    voxel_um
        Voxel size (z, y, x) in µm.
    valid
        Boolean mask broadcastable to ``frame``, e.g. (z, 1, x) of a deskewed frame, or None when all is
        valid. Invalid voxels may hold anything.
    foreground
        Foreground probability on the frame's grid, float32 within 0..1, or None.
    calibration
        Thresholds of the movie, from :func:`.calibration.calibrate`.
    parameters
        The same as for the calibration.
    where
        Name of the frame for error messages.
    tile_voxels
        Largest tile; it changes memory, not the result.

    Returns
    -------
    labels
        Instance labels (z, y, x), uint32: 1..n, the most significant first; 0 is background and invalid.
    objects
        One row per label; columns in :data:`.objects.COLUMNS`.

    Raises
    ------
    BadInputError
        If shapes or the voxel size are wrong, a valid voxel is not finite, or the foreground is missing.
    """
    check_frame(frame, voxel_um, valid, foreground, where)
    if foreground is None and calibration.foreground is not None:
        raise BadInputError(
            where,
            found="no foreground probability",
            expected="one, because the movie was calibrated with one",
            remedy="Finish the features of this frame first.",
        )
    peaks, _ = find_peaks(frame, voxel_um, valid, parameters, where=where, tile_voxels=tile_voxels)
    peaks = _significant(peaks, foreground, calibration)
    psf = psf_sigma_um(parameters) / np.array(voxel_um)
    width = np.maximum(1, FILTER_TO_BLOB * np.asarray(parameters.scale_factors))[peaks.scale]
    spots = fit_spots(frame, valid, peaks.position, width[:, None] * psf)
    apart = suppress(spots.position / psf, SUPPRESSION * width)  # two seeds can converge to one particle
    spots, z_score = _rows(spots, apart), peaks.z_score[apart]
    labels = label_spots(frame, voxel_um, valid, spots, parameters, where=where, tile_voxels=tile_voxels)
    size = np.bincount(labels.reshape(-1), minlength=len(z_score) + 1)[1:]
    keep = (size > 0) & (size * np.prod(voxel_um) >= parameters.min_volume_um3)
    if not keep.all():
        spots, z_score = _rows(spots, keep), z_score[keep]
        labels = np.concatenate([[0], np.where(keep, np.cumsum(keep), 0)]).astype(np.uint32)[labels]
    return labels, object_table(frame, labels, voxel_um, valid, foreground, spots, z_score)


def _significant(peaks: Peaks, foreground: np.ndarray | None, calibration: Calibration) -> Peaks:
    probability = None if foreground is None else values_at(foreground, peaks.position)
    inside = calibration.is_inside(probability, len(peaks))
    threshold = np.where(inside, calibration.threshold_z, calibration.threshold_outside_z)
    return peaks.keep(peaks.z_score >= threshold)


def _rows(spots: Spots, keep: np.ndarray) -> Spots:
    return Spots(*(getattr(spots, field.name)[keep] for field in fields(spots)))
