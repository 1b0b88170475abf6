"""Calibration of a movie: one detector and one measure of evidence for all frames, from the first ones.

What separates particles from background, whether neighbouring frames help, and how likely a maximum is a
particle all follow from the movie. No label, and no assumption on the camera. Not the statistics themselves:
those are in :mod:`.observer` and :mod:`.evidence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic.dataclasses import dataclass as validated
from scipy.spatial import cKDTree

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.blobs import Peaks, find_peaks, responses_at, share_of_frame
from spatialdino_core.segment.channels import channel_responses, filter_halo, flattened
from spatialdino_core.segment.evidence import Evidence, Maxima, fit_evidence
from spatialdino_core.segment.filters import load_block, psf_sigma_um, typical_level
from spatialdino_core.segment.inputs import Foreground, Voxel, check_frame, values_at
from spatialdino_core.segment.localise import fit_spots
from spatialdino_core.segment.observer import (
    SINGLE_FRAME,
    Observer,
    TimeGroups,
    channel_covariance,
    persistence,
)
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.splitting import Singles, typical_singles
from spatialdino_core.segment.threshold import Bimodality, bimodality
from spatialdino_core.segment.tiles import best_known_tile, known_voxels, valid_box
from spatialdino_core.segment.window import TimeWindow

HISTOGRAM_BINS = 256
SAMPLES = 40_000
"""Voxels per frame, spread over one tile, that the covariance of the background is measured on."""
LOOK_VOXELS = 8_000_000
"""Voxels per frame in which maxima are looked for."""
FADING_RATES = (0.1, 2.0)
"""Slowest and fastest that particles are taken to leave their places, see :func:`.observer.persistence`."""
MOVING_Z = 4.0
"""Maxima above this z-score tell how particles move."""
RING_Z = 6.0
RING_FACTOR = 5.0
"""No dark maximum counts within this many standard deviations of the point spread function of a bright one
above ``RING_Z``."""


@validated(frozen=True)
class Calibration:
    """What a movie's first frames say about particles and background. The same for all of its frames.

    Attributes
    ----------
    covariance
        Of the background's channels, per lag: :attr:`.observer.Observer.covariance`.
    persistence
        :attr:`.observer.Observer.persistence`.
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

    def observer(self, parameters: SegmentParameters, voxel_um: Voxel) -> Observer:
        """The detector."""
        sigma = psf_sigma_um(parameters) / np.array(voxel_um)
        kept = np.array(self.persistence)
        return Observer.of(np.array(self.covariance), kept, parameters.size_factors, sigma)

    def as_json(self) -> dict[str, Any]:
        """Plain values that JSON can hold without loss."""
        return asdict(self)

    @staticmethod
    def of_json(fields: dict[str, Any]) -> Calibration:
        """Inverse of :meth:`as_json`."""
        return Calibration(**fields)


def calibrate(
    movie: TimeWindow,
    foreground: Callable[[int], Foreground] | None,
    voxel_um: Voxel,
    valid: np.ndarray | None,
    parameters: SegmentParameters,
    *,
    where: str = "movie",
) -> Calibration:
    """Calibrate the detector of a movie on its first frames.

    Parameters
    ----------
    movie
        Its frames (z, y, x), uint16 or float32.
    foreground
        Gives the foreground probability of a frame on its grid, within 0..1; None without.
    voxel_um
        Voxel size (z, y, x) in µm.
    valid
        Boolean mask broadcastable to a frame, e.g. (z, 1, x), or None when every voxel is valid.
    parameters
        Optics, sizes, and what is accepted.
    where
        Name of the movie for error messages.

    Raises
    ------
    BadInputError
        If there is no frame, if shapes disagree, if values are not finite, or if no frame varies at all.
    """
    if not movie.frames:
        raise _nothing(where, "no frame")
    span = movie.frames[: calibration_span(parameters)]
    job = _Job(movie, foreground, voxel_um, valid, parameters, where)
    maps, verdict = job.foreground_maps(span)
    covariance = channel_covariance(job.sample(span), span)
    still = Observer.of(covariance, np.ones(1), parameters.size_factors, job.sigma)
    peaks = job.peaks(still, 0, maps)
    single = best = job.evidence(peaks, maps)
    kept, reach = np.ones(1), 0
    if (
        single.expected_f1 < parameters.temporal_below_f1
        and parameters.temporal_reach_frames
        and len(span) > 1
    ):
        fading = persistence(job.fading_rate(still, peaks), parameters.temporal_reach_frames)
        observer = Observer.of(covariance, fading, parameters.size_factors, job.sigma)
        together = job.evidence(job.peaks(observer, parameters.temporal_reach_frames, maps), maps)
        if together.expected_f1 > 0:
            best, kept, reach = together, fading, parameters.temporal_reach_frames
    return Calibration(
        covariance=covariance.tolist(),
        persistence=kept.tolist(),
        reach=reach,
        evidence=best,
        single_frame_f1=single.expected_f1,
        foreground=verdict,
        singles=None if reach or not parameters.split_false_rate else job.singles(peaks, single, maps),
        frames=len(maps),
    )


def calibration_span(parameters: SegmentParameters) -> int:
    """The number of first frames that calibration reads."""
    return max(2 * parameters.temporal_reach_frames + 1, parameters.calibration_frames)


@dataclass
class _Job:
    """A movie with all that it takes to look for maxima in it."""

    movie: TimeWindow
    foreground: Callable[[int], Foreground] | None
    voxel_um: Voxel
    valid: np.ndarray | None
    parameters: SegmentParameters
    where: str

    @property
    def sigma(self) -> np.ndarray:
        return psf_sigma_um(self.parameters) / np.array(self.voxel_um)

    def foreground_maps(self, span: list[int]) -> tuple[dict[int, Foreground | None], Bimodality | None]:
        """The frames to look at, with their foreground; and whether that is bimodal."""
        maps: dict[int, Foreground | None] = {}
        histogram, edges = np.zeros(HISTOGRAM_BINS), np.linspace(0, 1, HISTOGRAM_BINS + 1)
        for frame in _spread(span, self.parameters.calibration_frames):
            probability = maps[frame] = self.foreground(frame) if self.foreground else None
            check_frame(self.movie.frame(frame), self.voxel_um, self.valid, probability, self._name(frame))
            histogram += _histogram(probability, self.valid, edges)
        return maps, bimodality(histogram, edges) if histogram.any() else None

    def sample(self, span: list[int]) -> np.ndarray:
        """Channel responses at the same places in all frames of ``span``: (frames, channels, samples)."""
        tile = best_known_tile(self.movie.frame(span[0]).shape, filter_halo(self.sigma), self.valid)
        part = valid_box(self.valid, tile.outer)
        inside = np.flatnonzero(known_voxels(self.valid, tile.core))
        if not len(inside):
            raise _nothing(self.where, "no valid voxel")
        places = inside[:: max(1, len(inside) // SAMPLES)]
        found = []
        for frame in span:
            image = self.movie.frame(frame)
            level = typical_level(image, self.valid)
            block = load_block(image, tile, self.valid, level, self._name(frame))
            responses = channel_responses(flattened(block, part, self.sigma), self.sigma)
            found.append(responses[(slice(None), *tile.inner)].reshape(len(responses), -1)[:, places])
        return np.stack(found)

    def peaks(self, observer: Observer, reach: int, frames: Iterable[int]) -> dict[int, tuple[Peaks, Peaks]]:
        """Bright and dark maxima in ``frames``."""
        found = {}
        for frame in frames:
            groups = TimeGroups.around(frame, self.movie.frames[: calibration_span(self.parameters)], reach)
            bright, dark = find_peaks(
                self.movie.images(frame, groups),
                observer.detector(groups),
                self.voxel_um,
                self.valid,
                self.parameters,
                where=self._name(frame),
                with_dark=True,
                most_voxels=LOOK_VOXELS,
            )
            found[frame] = bright, dark
        if not any(len(dark) for _, dark in found.values()):
            raise _nothing(self.where, f"{len(found)} calibration frames without any variation")
        return found

    def singles(
        self,
        peaks: dict[int, tuple[Peaks, Peaks]],
        evidence: Evidence,
        maps: dict[int, Foreground | None],
    ) -> Singles | None:
        """How the particles look that are detected in ``maps``' frames, each on its own."""
        spots = {}
        for frame, (bright, _) in peaks.items():
            confidence = evidence.confidence(bright.z_score, values_at(maps[frame], bright.position))
            found = bright.keep(confidence >= evidence.threshold)
            width = np.asarray(self.parameters.size_factors)[found.size, None] * self.sigma
            spots[frame] = fit_spots(self.movie.frame(frame), self.valid, found.position, width)
        return typical_singles(self.movie.frame, spots, self.valid, self.sigma)

    def evidence(self, peaks: dict[int, tuple[Peaks, Peaks]], maps: dict[int, Foreground | None]) -> Evidence:
        """Evidence from maxima; dark ones in the rings around bright particles say nothing of noise."""
        apart = {frame: _apart(dark, bright, self.sigma) for frame, (bright, dark) in peaks.items()}
        bright = [_maxima(some, maps[frame]) for frame, (some, _) in peaks.items()]
        dark = [_maxima(some.keep(apart[frame]), maps[frame]) for frame, (_, some) in peaks.items()]
        frames = len(peaks) * share_of_frame(self.movie.frame(next(iter(peaks))).shape, LOOK_VOXELS)
        return fit_evidence(
            Maxima.joined(bright),
            Maxima.joined(dark),
            frames,
            frames * max(0.05, float(np.mean(np.concatenate(list(apart.values()))))),
            false_positives_per_frame=self.parameters.false_positives_per_frame,
            foreground_weight=self.parameters.foreground_weight,
        )

    def fading_rate(self, observer: Observer, peaks: dict[int, tuple[Peaks, Peaks]]) -> float:
        """How fast particles leave their places, from the responses there one frame later.

        Noise and texture add as much to bright maxima as they take from dark ones, so the sum over both is
        that of the particles alone. A maximum lies somewhat beside its particle, so the rate comes out rather
        too high than too low; which does less harm: particles are not found where they no longer are.
        """
        now = later = 0.0
        for frame, (bright, dark) in peaks.items():
            if frame + 1 not in self.movie.frames:
                continue
            places = [some.position[some.z_score >= MOVING_Z] for some in (bright, dark)]
            for shift in (0, 1):
                image = self.movie.frame(frame + shift)
                values = responses_at(
                    image,
                    observer.weights(SINGLE_FRAME),
                    places,
                    self.voxel_um,
                    self.valid,
                    self.parameters,
                    where=self._name(frame + shift),
                    most_voxels=LOOK_VOXELS,
                )
                total = sum(float(np.nansum(one)) for one in values)
                now, later = (now + total, later) if shift == 0 else (now, later + total)
        left = np.clip(later / now, 0.05, 1.0) if now > 0 else 0.05
        return float(np.clip(left ** (-2 / 3) - 1, *FADING_RATES))

    def _name(self, frame: int) -> str:
        return f"{self.where}, frame {frame}"


def _spread(span: list[int], count: int) -> list[int]:
    """At most ``count`` frames at even distances in the middle of ``span``, where most have neighbours."""
    count = min(count, len(span))
    step = max(1, len(span) // (count + 1))
    first = (len(span) - (count - 1) * step - 1) // 2
    return span[first : first + count * step : step]


def _apart(dark: Peaks, bright: Peaks, sigma_voxels: np.ndarray) -> np.ndarray:
    """Which dark maxima do not lie beside a bright particle, bool (n,)."""
    strong = bright.position[bright.z_score >= RING_Z]
    if not len(strong) or not len(dark):
        return np.ones(len(dark), dtype=bool)
    distance, _ = cKDTree(strong / sigma_voxels).query(dark.position / sigma_voxels)
    return np.asarray(distance > RING_FACTOR)


def _maxima(peaks: Peaks, foreground: Foreground | None) -> Maxima:
    return Maxima(peaks.z_score, values_at(foreground, peaks.position))


def _nothing(where: str, found: str) -> BadInputError:
    return BadInputError(
        where,
        found=found,
        expected="at least one frame with an image in it",
        remedy="Check the deskewed frames, or leave this movie out.",
    )


def _histogram(foreground: Foreground | None, valid: np.ndarray | None, edges: np.ndarray) -> np.ndarray:
    """Counts of the probabilities of valid voxels, plane by plane to bound memory."""
    counts = np.zeros(len(edges) - 1)
    if foreground is None:
        return counts
    for z, plane in enumerate(foreground):
        part = None if valid is None else np.broadcast_to(valid[z if len(valid) > 1 else 0], plane.shape)
        counts += np.histogram(plane if part is None else plane[part], edges)[0]
    return counts
