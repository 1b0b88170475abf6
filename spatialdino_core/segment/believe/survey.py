"""What is seen in a movie's first frames: samples of the background, maxima, how fast particles leave.

Not what is concluded from it: that is in :mod:`.calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.spatial import cKDTree

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.believe.bimodality import Bimodality, bimodality
from spatialdino_core.segment.believe.evidence import Evidence, Maxima, fit_evidence
from spatialdino_core.segment.detect.blobs import Blobs, find_blobs, responses_at
from spatialdino_core.segment.detect.observer import SINGLE_FRAME, Observer, TimeGroups
from spatialdino_core.segment.detect.sweep import Channels, Source, values_in
from spatialdino_core.segment.detect.tiles import best_known_tile, share_of_frame
from spatialdino_core.segment.detect.window import SegmentMovie
from spatialdino_core.segment.detections import Detections
from spatialdino_core.segment.measure.localise import fit_spots
from spatialdino_core.segment.measure.splitting import Singles, typical_singles
from spatialdino_core.segment.optics import FACTORS, Optics
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.volume import Foreground, Volume, values_at

HISTOGRAM_BINS = 256
SAMPLES = 40_000
"""Voxels per frame, spread over one tile, that the covariance of the background is measured on."""
LOOK_VOXELS = 8_000_000
"""Voxels per frame in which maxima are looked for."""
FADING_RATES = (0.1, 2.0)
"""Slowest and fastest that particles leave their places, as :func:`..detect.observer.persistence`."""
MOVING_Z = 4.0
"""Maxima above this z-score tell how particles move."""
RING_Z = 6.0
RING_FACTOR = 5.0
"""No dark maximum counts within this many standard deviations of the point spread function of a bright one
above ``RING_Z``."""


@dataclass(frozen=True)
class Survey:
    """The first frames of a movie, and what it takes to look for maxima in them.

    Attributes
    ----------
    movie, optics, parameters
        Of the calibration.
    span
        Numbers of the frames.
    maps
        Those in which maxima are looked for, with their foreground probability or None.
    verdict
        Whether that probability is bimodal; None without it.
    threads
        Parts of a frame that are gone through at the same time.
    """

    movie: SegmentMovie
    span: list[int]
    optics: Optics
    parameters: SegmentParameters
    threads: int
    maps: dict[int, Foreground | None]
    verdict: Bimodality | None

    @staticmethod
    def of(
        movie: SegmentMovie, span: list[int], optics: Optics, parameters: SegmentParameters, threads: int
    ) -> Survey:
        """Choose the frames, and read their foreground."""
        maps: dict[int, Foreground | None] = {}
        histogram, edges = np.zeros(HISTOGRAM_BINS), np.linspace(0, 1, HISTOGRAM_BINS + 1)
        for number in _spread(span, parameters.calibration_frames):
            maps[number] = movie.foreground(number)
            histogram += _histogram(movie.frame(number), maps[number], HISTOGRAM_BINS)
        verdict = bimodality(histogram, edges) if histogram.any() else None
        return Survey(movie, span, optics, parameters, threads, maps, verdict)

    def background(self) -> np.ndarray:
        """Channel responses at the same places in all frames: (frames, channels, samples)."""
        first = self.movie.frame(self.span[0])
        tile = best_known_tile(first, self.optics.halo)
        inside = np.flatnonzero(first.known(tile.core))
        if not len(inside):
            raise no_image(self.movie.name, "no valid voxel")
        core = [part.stop - part.start for part in tile.core]
        places = np.stack(np.unravel_index(inside[:: max(1, len(inside) // SAMPLES)], core), axis=1)
        # Of rows of the frame, but from the tile's first voxels along z and x on, as responses are.
        places += [tile.inner[0].start, tile.core[1].start, tile.inner[2].start]
        places = places[np.argsort(places[:, 1], kind="stable")]
        found = np.empty((len(self.span), len(FACTORS), len(places)), np.float32)
        for number, responses in zip(self.span, found, strict=True):
            source = Source.of([self.movie.frame(number)], self.optics.sigma_voxels)
            rows = tile.core[1].start, tile.core[1].stop
            channels = Channels(source, rows, (tile.outer[0], tile.outer[2]))
            for finished in channels:
                here = slice(*np.searchsorted(places[:, 1], finished))
                for ring, values in zip(channels.rings, responses, strict=True):
                    values[here] = values_in(ring, places[here])
        return found

    def blobs(self, observer: Observer, reach: int) -> dict[int, Blobs]:
        """Bright and dark maxima in the frames of ``maps``."""
        find = partial(find_blobs, with_dark=True, most_voxels=LOOK_VOXELS, threads=self.threads)
        found = {}
        for number in self.maps:
            groups = TimeGroups.around(number, self.span, reach)
            found[number] = find(self.movie.seen(number, groups), observer.detector(groups), self.optics)
        if not any(len(blobs.dark) for blobs in found.values()):
            raise no_image(self.movie.name, f"{len(found)} calibration frames without any variation")
        return found

    def evidence(self, blobs: dict[int, Blobs]) -> Evidence:
        """Evidence from maxima; dark ones in the rings around bright particles say nothing of noise."""
        apart = {number: _apart(*both, self.optics.sigma_voxels) for number, both in blobs.items()}
        shape = self.movie.frame(next(iter(blobs))).shape
        frames = len(blobs) * share_of_frame(shape, self.optics.cell, LOOK_VOXELS)
        return fit_evidence(
            Maxima.joined([self._maxima(number, both.bright) for number, both in blobs.items()]),
            Maxima.joined([self._maxima(n, both.dark.keep(apart[n])) for n, both in blobs.items()]),
            frames,
            frames * max(0.05, float(np.mean(np.concatenate(list(apart.values()))))),
            false_positives_per_frame=self.parameters.false_positives_per_frame,
            foreground_weight=self.parameters.foreground_weight,
        )

    def _maxima(self, number: int, found: Detections) -> Maxima:
        return Maxima(found.z_score, values_at(self.maps[number], found.position))

    def singles(self, blobs: dict[int, Blobs], evidence: Evidence) -> Singles | None:
        """How the particles look that are detected, each on its own."""
        spots = {}
        for number, (bright, _) in blobs.items():
            found = evidence.judged(bright, self.maps[number])
            found = found.keep(found.confidence >= evidence.threshold)
            spots[number] = fit_spots(self.movie.frame(number), found, self.optics)
        return typical_singles(self.movie.frame, spots, self.optics)

    def fading_rate(self, observer: Observer, blobs: dict[int, Blobs]) -> float:
        """How fast particles leave their places, from the responses there one frame later.

        Noise and texture add as much to bright maxima as they take from dark ones, so the sum over both is
        that of the particles alone. A maximum lies somewhat beside its particle, so the rate comes out rather
        too high than too low; which does less harm: particles are not found where they no longer are.
        """
        total, weights = np.zeros(2), observer.weights(SINGLE_FRAME)
        for number, both in blobs.items():
            if number + 1 not in self.movie.frames:
                continue
            places = [some.position[some.z_score >= MOVING_Z] for some in both]
            for shift in (0, 1):
                frame = self.movie.frame(number + shift)
                values = responses_at(frame, weights, places, self.optics, most_voxels=LOOK_VOXELS)
                total[shift] += sum(float(np.nansum(one)) for one in values)
        now, later = total.tolist()
        left = np.clip(later / now, 0.05, 1.0) if now > 0 else 0.05
        return float(np.clip(left ** (-2 / 3) - 1, *FADING_RATES))


def _spread(span: list[int], count: int) -> list[int]:
    """At most ``count`` frames at even distances in the middle of ``span``, where most have neighbours."""
    count = min(count, len(span))
    step = max(1, len(span) // (count + 1))
    first = (len(span) - (count - 1) * step - 1) // 2
    return span[first : first + count * step : step]


def _apart(bright: Detections, dark: Detections, sigma_voxels: np.ndarray) -> np.ndarray:
    """Which dark maxima do not lie beside a bright particle, bool (n,)."""
    strong = bright.position[bright.z_score >= RING_Z]
    if not len(strong) or not len(dark):
        return np.ones(len(dark), dtype=bool)
    distance, _ = cKDTree(strong / sigma_voxels).query(dark.position / sigma_voxels)
    return np.asarray(distance > RING_FACTOR)


def no_image(where: str, found: str) -> BadInputError:
    """That there is nothing to learn from."""
    return BadInputError(
        where,
        found=found,
        expected="at least one frame with an image in it",
        remedy="Check the deskewed frames, or leave this movie out.",
    )


def _histogram(frame: Volume, foreground: Foreground | None, bins: int) -> np.ndarray:
    """Counts of the probabilities of valid voxels in equal parts of 0..1, plane by plane to bound memory."""
    counts, valid = np.zeros(bins), frame.valid
    if foreground is None:
        return counts
    for z, plane in enumerate(foreground):
        values = plane if valid is None else plane[np.broadcast_to(valid[z % len(valid)], plane.shape)]
        counts += np.bincount(np.minimum(values * bins, bins - 1).astype(np.intp).ravel(), minlength=bins)
    return counts
