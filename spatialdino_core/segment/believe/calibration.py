"""Calibration of a movie: one detector and one measure of evidence for all frames, from the first ones.

What separates particles from background, whether neighbouring frames help, and how likely a maximum is a
particle all follow from the movie. No label, and no assumption on the camera. Not what is looked at: that is
in :mod:`.survey`; nor the statistics themselves: those are in :mod:`..detect.observer` and :mod:`.evidence`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from pydantic.dataclasses import dataclass as validated

from spatialdino_core.segment.believe.bimodality import Bimodality
from spatialdino_core.segment.believe.evidence import Evidence
from spatialdino_core.segment.believe.survey import Survey, no_image
from spatialdino_core.segment.detect.observer import Observer, channel_covariance, persistence
from spatialdino_core.segment.detect.window import SegmentMovie
from spatialdino_core.segment.measure.splitting import Singles
from spatialdino_core.segment.optics import Optics
from spatialdino_core.segment.parameters import SegmentParameters


@validated(frozen=True)
class Calibration:
    """What a movie's first frames say about particles and background. The same for all of its frames.

    Attributes
    ----------
    covariance
        Of the background's channels, per lag: :attr:`..detect.observer.Observer.covariance`.
    persistence
        :attr:`..detect.observer.Observer.persistence`.
    reach
        Frames before and after that help; 0: single frames do.
    evidence
        Confidence of maxima and its threshold.
    single_frame_f1
        F1 score to be expected from single frames.
    foreground
        Otsu's threshold of the foreground probability with its bimodality, reported; None when there is none.
    singles
        How single particles look; None where too few were seen to tell pairs from them, and where other
        frames help: there moving particles look like pairs.
    frames
        Number of frames in which maxima were looked for.
    """

    covariance: list[list[list[float]]]
    persistence: list[float]
    reach: int
    evidence: Evidence
    single_frame_f1: float
    foreground: Bimodality | None
    singles: Singles | None
    frames: int

    def observer(self, optics: Optics) -> Observer:
        """The detector."""
        return Observer(np.array(self.covariance), np.array(self.persistence), optics.signatures)

    def as_json(self) -> dict[str, Any]:
        """Plain values that JSON can hold without loss."""
        return asdict(self)

    @staticmethod
    def of_json(fields: dict[str, Any]) -> Calibration:
        """Inverse of :meth:`as_json`."""
        return Calibration(**fields)


def calibrate(movie: SegmentMovie, parameters: SegmentParameters, *, threads: int = 1) -> Calibration:
    """Calibrate the detector of a movie on its first frames.

    Parameters
    ----------
    movie
        Its frames.
    parameters
        Optics, sizes, and what is accepted.
    threads
        Parts of a frame that are gone through at the same time; time only.

    Raises
    ------
    BadInputError
        If there is no frame, if shapes disagree, if values are not finite, or if no frame varies at all.
    """
    if not movie.frames:
        raise no_image(movie.name, "no frame")
    span = movie.frames[: calibration_span(parameters)]
    optics = Optics.of(parameters, movie.frame(span[0]).voxel_um)
    survey = Survey.of(movie, span, optics, parameters, threads)
    covariance = channel_covariance(survey.background(), span)
    still = Observer(covariance, np.ones(1), optics.signatures)
    blobs = survey.blobs(still, 0)
    single = best = survey.evidence(blobs)
    kept, reach = np.ones(1), 0
    if (
        single.expected_f1 < parameters.temporal_below_f1
        and parameters.temporal_reach_frames
        and len(span) > 1
    ):
        fading = persistence(survey.fading_rate(still, blobs), parameters.temporal_reach_frames)
        observer = Observer(covariance, fading, optics.signatures)
        together = survey.evidence(survey.blobs(observer, parameters.temporal_reach_frames))
        if together.expected_f1 > 0:
            best, kept, reach = together, fading, parameters.temporal_reach_frames
    return Calibration(
        covariance=covariance.tolist(),
        persistence=kept.tolist(),
        reach=reach,
        evidence=best,
        single_frame_f1=single.expected_f1,
        foreground=survey.verdict,
        singles=None if reach or not parameters.split_false_rate else survey.singles(blobs, single),
        frames=len(survey.maps),
    )


def calibration_span(parameters: SegmentParameters) -> int:
    """The number of first frames that calibration reads."""
    return max(2 * parameters.temporal_reach_frames + 1, parameters.calibration_frames)
