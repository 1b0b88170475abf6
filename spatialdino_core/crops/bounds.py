"""The intensity scale of a movie: computed once on its first frames, kept, shared by training and
inference."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from spatialdino_core.crops.normalise import Bounds, FrameBounds, Scale, bounds_of
from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.movies.ledger import remembered
from spatialdino_core.parameters import digest


def movie_bounds(movie: DeskewedMovie, parameters: NormalisationParameters, channel: int = 0) -> Scale:
    """Intensity scale of one channel of a movie.

    Parameters
    ----------
    parameters
        How bounds are found; for inference, those in the header of the weights.
    channel
        From 0, in the order of the store.

    Returns
    -------
    Bounds or FrameBounds
        For `normalise`. ``FrameBounds`` with ``scale: frame``.
    """
    if parameters.low_counts is not None and parameters.high_counts is not None:
        return Bounds(parameters.low_counts, parameters.high_counts)
    if parameters.scale == "frame":
        return FrameBounds(parameters.tail_fraction, movie.valid)
    frames = movie.first_frames(parameters.calibration_frames)

    def compute() -> dict[str, Any]:
        parts = (movie.store.read(frame, channel)[movie.valid] for frame in frames)
        return asdict(bounds_of(parts, parameters))

    settings = digest(asdict(parameters), channel)
    key = digest(settings, {frame: movie.record.checksums[frame] for frame in frames})
    return Bounds(**remembered(movie.folder / "ledger" / f"bounds-{settings}.json", key, compute))
