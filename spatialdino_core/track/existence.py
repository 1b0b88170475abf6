"""Whether a track is a particle at all: noise seldom comes back where a particle would be.

What remains of detections that were accepted generously falls here. Not the links, which are made before.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from spatialdino_core.track.joins import LogProbabilities
from spatialdino_core.track.links import Links
from spatialdino_core.track.objects import Array


def track_confidence(links: Links, log_probability: LogProbabilities, related: Array | None = None) -> Array:
    """Probability that the track of each object is one particle rather than as many false detections.

    The likelihood of a track (its birth, its links, its end) against that of its objects as clutter, both
    densities in space, the detections' own confidence being part of the latter.

    Parameters
    ----------
    links
        Links of all objects.
    log_probability
        Of being there and being seen.
    related
        (N,) logarithm of the odds that a track which starts or ends with an object split from another or
        merged into it, rather than that it came or went by itself; −∞ elsewhere. None: nothing is known.

    Returns
    -------
    numpy.ndarray
        (N,), equal for all objects of a track.
    """
    first, last = links.previous < 0, links.following < 0
    evidence = np.where(first, log_probability.new, -np.nan_to_num(links.cost)) - log_probability.clutter
    evidence += np.where(last, log_probability.ending, 0.0)
    if related is not None:
        evidence += np.logaddexp(0.0, related)
    total = np.bincount(links.track, weights=evidence, minlength=len(evidence))
    return np.asarray(expit(total[links.track]))
