"""The point spread function in µm, and the level that is taken off before float32 filters."""

from __future__ import annotations

import numpy as np

from spatialdino_core.segment.parameters import SegmentParameters


def psf_sigma_um(parameters: SegmentParameters) -> np.ndarray:
    """Standard deviations (z, y, x) of the point spread function in µm, shape (3,)."""
    optics = parameters.optics
    return np.array([optics.sigma_axial_um, optics.sigma_lateral_um, optics.sigma_lateral_um])


def typical_level(frame: np.ndarray, valid: np.ndarray | None) -> float:
    """A constant near the valid intensities, from a sparse sample: subtracting it saves float32 digits."""
    sparse = (slice(None, None, 4), slice(None, None, 8), slice(None, None, 8))
    sample = frame[sparse]
    if valid is not None:
        sample = sample[np.broadcast_to(valid, frame.shape)[sparse]]
    finite = sample[np.isfinite(sample)]
    return float(np.median(finite)) if finite.size else 0.0
