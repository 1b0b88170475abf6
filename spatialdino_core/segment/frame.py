"""Segmentation of one frame with the calibration of its movie: the front door of this room.

A frame's result depends on the frames around it only where the calibration says that they help, so frames can
be segmented in any order and resumed anywhere. Linking them is the business of the track room.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.blobs import SUPPRESSION, find_peaks, suppress
from spatialdino_core.segment.calibration import Calibration
from spatialdino_core.segment.filters import psf_sigma_um
from spatialdino_core.segment.inputs import Foreground, Voxel, check_frame, values_at
from spatialdino_core.segment.instances import label_spots
from spatialdino_core.segment.localisation_weights import localisation_weights
from spatialdino_core.segment.localise import Spots, fit_spots, measure_spots
from spatialdino_core.segment.objects import object_table
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.splitting import split_spots
from spatialdino_core.segment.tiles import TILE_VOXELS
from spatialdino_core.segment.window import TimeWindow


def segment_frame(
    movie: TimeWindow,
    number: int,
    voxel_um: Voxel,
    valid: np.ndarray | None,
    foreground: Foreground | None,
    calibration: Calibration,
    parameters: SegmentParameters,
    *,
    where: str = "movie",
    tile_voxels: int = TILE_VOXELS,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Detect, label and measure the particles of one frame.

    Parameters
    ----------
    movie
        Intensities (z, y, x) of its frames, uint16 or float32.
    number
        The frame.
    voxel_um
        Voxel size (z, y, x) in µm.
    valid
        Boolean mask broadcastable to a frame, e.g. (z, 1, x) of a deskewed frame, or None when all is
        valid. Invalid voxels may hold anything.
    foreground
        Foreground probability on the frame's grid within 0..1, or None.
    calibration
        Of the movie, from :func:`.calibration.calibrate`.
    parameters
        The same as for the calibration.
    where
        Name of the movie for error messages.
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
    where = f"{where}, frame {number}"
    frame = movie.frame(number)
    check_frame(frame, voxel_um, valid, foreground, where)
    if foreground is None and calibration.evidence.foregrounds:
        raise BadInputError(
            where,
            found="no foreground probability",
            expected="one, because the movie was calibrated with one",
            remedy="Finish the features of this frame first.",
        )
    observer = calibration.observer(parameters, voxel_um)
    groups = movie.groups(number, calibration.reach)
    images = movie.images(number, groups)
    peaks, _ = find_peaks(
        images,
        observer.detector(groups),
        voxel_um,
        valid,
        parameters,
        where=where,
        tile_voxels=tile_voxels,
    )
    confidence = calibration.evidence.confidence(peaks.z_score, values_at(foreground, peaks.position))
    found = _Found(peaks.position, peaks.z_score, confidence, np.asarray(parameters.size_factors)[peaks.size])
    found = found.keep(confidence >= min(parameters.candidate_confidence, calibration.evidence.threshold))
    psf_um = psf_sigma_um(parameters)
    psf = psf_um / np.array(voxel_um)
    image = frame
    if len(images) > 1:  # where movement makes blobs wider than they are
        found = replace(found, width=np.ones_like(found.width))
        image = _sum(images, localisation_weights(observer, groups, calibration.evidence.typical_z, psf_um))
    spots = fit_spots(image, valid, found.position, found.width[:, None] * psf)
    apart = suppress(
        spots.position / psf, SUPPRESSION * found.width
    )  # two seeds can converge to one particle
    spots, found = _rows(spots, apart), found.keep(apart)
    confident = found.confidence >= calibration.evidence.threshold
    spots, parent = split_spots(
        image, valid, spots, confident, calibration.singles, psf, parameters.split_false_rate
    )
    found = found.keep(parent)
    labels = label_spots(image, voxel_um, valid, spots, parameters)
    large = (labels.sizes > 0) & (labels.sizes * np.prod(voxel_um) >= parameters.min_volume_um3)
    spots, found, labels = _rows(spots, large), found.keep(large), labels.keep(large)
    if image is not frame:
        spots = measure_spots(frame, valid, spots)
    return labels.image(), object_table(
        frame, labels, voxel_um, valid, foreground, spots, found.z_score, found.confidence
    )


@dataclass(frozen=True)
class _Found:
    """Detections: positions (n, 3) in voxels, and per row z-score, confidence and width in PSFs."""

    position: np.ndarray
    z_score: np.ndarray
    confidence: np.ndarray
    width: np.ndarray

    def keep(self, rows: np.ndarray) -> _Found:
        return _Found(*(getattr(self, field.name)[rows] for field in fields(self)))


def _sum(images: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Weighted sum of images, float32: of lower noise and standing texture than the first."""
    total = np.zeros(images[0].shape, np.float32)
    for image, weight in zip(images, weights, strict=True):
        total += np.float32(weight) * image
    return total


def _rows(spots: Spots, keep: np.ndarray) -> Spots:
    return Spots(*(getattr(spots, field.name)[keep] for field in fields(spots)))
