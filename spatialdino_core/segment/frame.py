"""Segmentation of one frame with the calibration of its movie: the front door of this room.

A frame's result depends on the frames around it only where the calibration says that they help, so frames can
be segmented in any order and resumed anywhere. Linking them is the business of the track room.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.believe.calibration import Calibration
from spatialdino_core.segment.detect.blobs import SUPPRESSION, find_blobs, suppress
from spatialdino_core.segment.detect.tiles import TILE_VOXELS
from spatialdino_core.segment.detect.window import SegmentMovie, weighted_sum
from spatialdino_core.segment.detections import Detections
from spatialdino_core.segment.measure.instances import label_spots
from spatialdino_core.segment.measure.localisation_weights import localisation_weights
from spatialdino_core.segment.measure.localise import fit_spots, measure_spots
from spatialdino_core.segment.measure.objects import object_table
from spatialdino_core.segment.measure.splitting import split_spots
from spatialdino_core.segment.optics import Optics
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.volume import Volume

if TYPE_CHECKING:
    import torch


def segment_frame(
    movie: SegmentMovie,
    number: int,
    calibration: Calibration,
    parameters: SegmentParameters,
    *,
    threads: int = 1,
    tile_voxels: int = TILE_VOXELS,
    device: torch.device | None = None,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Detect, label and measure the particles of one frame.

    Parameters
    ----------
    movie
        Its frames.
    number
        The frame.
    calibration
        Of the movie, from :func:`.believe.calibration.calibrate`.
    parameters
        The same as for the calibration.
    threads
        Parts of the frame that are gone through at the same time; time only.
    tile_voxels
        Largest tile; it changes memory, not the result.
    device
        Where particles are looked for, see :func:`.detect.blobs.find_blobs`; the rest is done on the CPU.

    Returns
    -------
    labels
        Instance labels (z, y, x), uint32: 1..n, the most significant first; 0 is background and invalid.
    objects
        One row per label; columns in :data:`.measure.objects.COLUMNS`.

    Raises
    ------
    BadInputError
        If shapes or the voxel size are wrong, a valid voxel is not finite, or the foreground is missing.
    """
    frame, foreground, evidence = movie.frame(number), movie.foreground(number), calibration.evidence
    if foreground is None and evidence.foregrounds:
        raise BadInputError(
            frame.name,
            found="no foreground probability",
            expected="one, because the movie was calibrated with one",
            remedy="Finish the features of this frame first.",
        )
    optics = Optics.of(parameters, frame.voxel_um)
    observer, groups = calibration.observer(optics), movie.groups(number, calibration.reach)
    seen = movie.seen(number, groups)

    detector = observer.detector(groups)
    found = find_blobs(seen, detector, optics, tile_voxels=tile_voxels, threads=threads, device=device).bright

    found = evidence.judged(found, foreground)
    found = found.keep(found.confidence >= min(parameters.candidate_confidence, evidence.threshold))

    image = frame
    if len(seen) > 1:
        weights = localisation_weights(observer, groups, evidence.typical_z, optics.sigma_um)
        image = frame.with_image(weighted_sum([one.image for one in seen], weights))
        found = replace(found, width=np.ones(len(found)))  # movement makes blobs wider than they are
    found = _fitted(image, found, calibration, optics, parameters)

    labels = label_spots(image, found, optics, parameters)
    large = (labels.sizes > 0) & (labels.sizes * np.prod(frame.voxel_um) >= parameters.min_volume_um3)
    found, labels = found.keep(large), labels.keep(large)
    if image is not frame:
        found = measure_spots(frame, found)
    return labels.image(), object_table(frame, labels, foreground, found)


def _fitted(
    image: Volume,
    found: Detections,
    calibration: Calibration,
    optics: Optics,
    parameters: SegmentParameters,
) -> Detections:
    """Particles at sub-voxel positions, close pairs apart."""
    found = fit_spots(image, found, optics)
    # Two seeds can converge to one particle.
    found = found.keep(suppress(found.position / optics.sigma_voxels, SUPPRESSION * found.width))
    confident = found.confidence >= calibration.evidence.threshold
    return split_spots(image, found, confident, calibration.singles, optics, parameters.split_false_rate)
