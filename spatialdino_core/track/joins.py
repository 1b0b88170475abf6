"""Log-likelihood ratios of joining track segments, compiled. Which are joined, `links` decides.

Between two frames all tracks are cut into heads (what came before) and tails (what comes after). The gain of
joining a head and a tail is its log-likelihood ratio against leaving both alone, the tail's next few objects
included. Every term is a log-likelihood, so none needs a weight.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.compiled import njit
from spatialdino_core.track.filter import HYPOTHESES, STATE, initialise, log_density, predict, update

Array = NDArray[np.float64]
Index = NDArray[np.intp]

LEVEL, LEVEL_VAR = 0, 1
NOISE_VAR, DRIFT_VAR, MEAN, VAR, OUTLIERS, INTENSITY_WEIGHT = 0, 1, 2, 3, 4, 5
LOOK_AHEAD = 4
"""Objects of a tail, beyond the first, that count in the gain of a join."""
MIN_GAIN = -12.0
"""Joins of a lower log-likelihood ratio (nats), their first step alone counted, are no candidates."""


@njit(nogil=True, cache=True)
def initialise_level(level: Array, brightness: float, light: Array) -> None:
    """Brightness of a particle that was seen once: its level and the variance of that."""
    unknown = math.isnan(brightness)
    level[LEVEL] = light[MEAN] if unknown else brightness
    level[LEVEL_VAR] = light[VAR] if unknown else light[NOISE_VAR]


@njit(nogil=True, cache=True)
def _log_same(level: Array, brightness: float, time: float, light: Array) -> float:
    """Log-ratio of a brightness under a level that wanders, against that of any object."""
    spread = level[LEVEL_VAR] + time * light[DRIFT_VAR] + light[NOISE_VAR]
    same = -0.5 * ((brightness - level[LEVEL]) ** 2 / spread + math.log(spread))
    other = -0.5 * ((brightness - light[MEAN]) ** 2 / light[VAR] + math.log(light[VAR]))
    return min(same - other, 50.0)


@njit(nogil=True, cache=True)
def brightness_gain(level: Array, brightness: float, time: float, light: Array) -> float:
    """Log-likelihood ratio of brightness, weighted.

    With a small probability the brightness jumps to anything: a merge or a neighbour's light cannot
    outweigh everything else.
    """
    if math.isnan(brightness) or light[INTENSITY_WEIGHT] == 0:
        return 0.0
    same = math.exp(_log_same(level, brightness, time, light))
    return light[INTENSITY_WEIGHT] * math.log((1 - light[OUTLIERS]) * same + light[OUTLIERS])


@njit(nogil=True, cache=True)
def update_level(level: Array, brightness: float, time: float, light: Array) -> None:
    """The level after one more measurement; where it jumped it begins anew."""
    if math.isnan(brightness):
        level[LEVEL_VAR] += time * light[DRIFT_VAR]
        return
    same = (1 - light[OUTLIERS]) * math.exp(_log_same(level, brightness, time, light))
    jumped = light[OUTLIERS] / (same + light[OUTLIERS])
    spread = level[LEVEL_VAR] + time * light[DRIFT_VAR]
    share = spread / (spread + light[NOISE_VAR])
    apart = (1 - share) * (brightness - level[LEVEL])
    level[LEVEL] = brightness - (1 - jumped) * apart
    kept = (1 - jumped) * (1 - share) * spread + jumped * light[NOISE_VAR]
    level[LEVEL_VAR] = kept + jumped * (1 - jumped) * apart * apart


class Measurements(NamedTuple):
    """Objects ordered by frame: number of the observed frame (N,) and its time in usual intervals (N,),
    position and its variance (N, 3), log-brightness (N,) or NaN.
    """

    frame: Index
    time: Array
    position: Array
    variance: Array
    brightness: Array


class LogProbabilities(NamedTuple):
    """Log-probabilities of being there and being seen.

    ``new`` and ``clutter`` (N,) are log-densities (µm⁻³) of an object as a particle's first and as a false
    detection; ``ending`` (N,) that a particle is not seen after this object. ``unseen`` and ``seen``
    (frames, span): not to be seen in the next 1, 2, … frames; to be seen in the last of them only.
    """

    new: Array
    clutter: Array
    ending: Array
    unseen: Array
    seen: Array


class Candidates(NamedTuple):
    """Objects ``later[starts[i]:starts[i + 1]]`` may follow object i; gain from likeness of features."""

    starts: Index
    later: Index
    likeness: Array


@njit(nogil=True, cache=True)
def update_states(
    rows: Index,
    previous: Index,
    measured: Measurements,
    motion: Array,
    light: Array,
    states: Array,
    levels: Array,
) -> None:
    """States of objects from those of their predecessors, which must be up to date."""
    hypotheses, ahead = np.empty(HYPOTHESES), np.empty(STATE)
    for i in rows:
        before = previous[i]
        if before < 0:
            initialise(states[i], measured.position[i], measured.variance[i], motion)
            initialise_level(levels[i], measured.brightness[i], light)
            continue
        time = measured.time[i] - measured.time[before]
        predict(states[before], time, motion, ahead, hypotheses)
        update(hypotheses, measured.position[i], measured.variance[i], states[i])
        levels[i] = levels[before]
        update_level(levels[i], measured.brightness[i], time, light)


@njit(nogil=True, cache=True)
def _look_ahead(
    state: Array,
    level: Array,
    here: int,
    following: Index,
    measured: Measurements,
    motion: Array,
    light: Array,
) -> float:
    """Log-likelihood of the next objects of a tail after its first, whose state and level are overwritten."""
    hypotheses, ahead = np.empty(HYPOTHESES), np.empty(STATE)
    total = 0.0
    for _ in range(LOOK_AHEAD):
        there = following[here]
        if there < 0:
            break
        time = measured.time[there] - measured.time[here]
        predict(state, time, motion, ahead, hypotheses)
        total += update(hypotheses, measured.position[there], measured.variance[there], state)
        total += brightness_gain(level, measured.brightness[there], time, light)
        update_level(level, measured.brightness[there], time, light)
        here = there
    return total


@njit(nogil=True, cache=True)
def _log_sum(a: float, b: float) -> float:
    top = max(a, b)
    return top + math.log(math.exp(a - top) + math.exp(b - top))


@njit(nogil=True, cache=True)
def join_gains(
    cut: int,
    forward: bool,
    heads: Index,
    candidates: Candidates,
    previous: Index,
    following: Index,
    measured: Measurements,
    log_probability: LogProbabilities,
    motion: Array,
    light: Array,
    states: Array,
    levels: Array,
) -> tuple[Index, Index, Array, Array]:
    """Gains of all candidate joins across the cut after frame ``cut``.

    Parameters
    ----------
    forward
        Whether only objects of the very next frame count, and none of their successors: so it is in a
        forward pass, when the future is not linked yet.
    heads
        Last objects of the heads, whose states and levels are up to date.
    previous, following
        (N,) links as they are.

    Returns
    -------
    earlier, later, cost, gain
        Candidates of at least `MIN_GAIN`; ``cost`` is the negative log-likelihood of the link.
    """
    hypotheses, ahead, forked = np.empty(HYPOTHESES), np.empty(STATE), np.empty(HYPOTHESES)  # (3, 16), (22,)
    state, level = np.empty(STATE), np.empty(2)  # (22,), (2,)
    alone: dict[int, float] = {-1: 0.0}
    earlier, later, costs, gains = [0], [0], [0.0], [0.0]
    for i in heads:
        predicted = 0
        for k in range(candidates.starts[i], candidates.starts[i + 1]):
            j = candidates.later[k]
            if measured.frame[j] <= cut or (previous[j] >= 0 and measured.frame[previous[j]] > cut):
                continue
            if forward and measured.frame[j] > cut + 1:
                continue
            frames = measured.frame[j] - measured.frame[i]
            time = measured.time[j] - measured.time[i]
            if frames != predicted:
                predict(states[i], time, motion, ahead, hypotheses)
                predicted = frames
            position, variance, brightness = (
                measured.position[j],
                measured.variance[j],
                measured.brightness[j],
            )
            likelihood = log_density(hypotheses, position, variance) + candidates.likeness[k]
            likelihood += brightness_gain(levels[i], brightness, time, light)
            likelihood += log_probability.seen[measured.frame[i], frames - 1]
            head = (
                log_probability.unseen[measured.frame[i], frames - 1]
                if forward
                else log_probability.ending[i]
            )
            if previous[i] < 0:
                head = _log_sum(log_probability.clutter[i] - log_probability.new[i], head)
            tail = log_probability.new[j]
            if forward:
                tail = _log_sum(log_probability.clutter[j], tail)
            elif following[j] < 0:
                tail = _log_sum(log_probability.clutter[j] - log_probability.ending[j], tail)
            gain = likelihood - head - tail
            if gain < MIN_GAIN:
                continue
            if not forward and following[j] >= 0:
                if j not in alone:
                    initialise(state, position, variance, motion)
                    initialise_level(level, brightness, light)
                    alone[j] = _look_ahead(state, level, j, following, measured, motion, light)
                forked[:] = hypotheses
                update(forked, position, variance, state)
                level[:] = levels[i]
                update_level(level, brightness, time, light)
                gain += _look_ahead(state, level, j, following, measured, motion, light) - alone[j]
            earlier.append(i)
            later.append(j)
            costs.append(-likelihood)
            gains.append(gain)
    return np.array(earlier[1:]), np.array(later[1:]), np.array(costs[1:]), np.array(gains[1:])
