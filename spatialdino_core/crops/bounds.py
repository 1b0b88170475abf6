"""The intensity scale of a movie: computed once on its first frames, kept, shared by training and
inference."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from spatialdino_core.crops.normalise import Bounds, bounds_of
from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.movies.ledger import remembered
from spatialdino_core.parameters import digest


def movie_bounds(movie: DeskewedMovie, parameters: NormalisationParameters) -> Bounds:
    """Bounds of a movie's first channel.

    Parameters
    ----------
    parameters
        How bounds are found; for inference, those in the header of the weights.
    """
    frames = movie.first_frames(parameters.calibration_frames)

    def compute() -> dict[str, Any]:
        return asdict(bounds_of((movie.store.read(frame)[movie.valid] for frame in frames), parameters))

    key = digest(asdict(parameters), {frame: movie.record.checksums[frame] for frame in frames})
    return Bounds(
        **remembered(movie.folder / "ledger" / f"bounds-{digest(asdict(parameters))}.json", key, compute)
    )
