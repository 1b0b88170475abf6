"""The interacting-multiple-model Kalman filter of one particle, compiled. It knows neither links nor movies.

A particle moves in one of two ways, Brownian or directed. In each frame it may draw its motion anew, which
gives three hypotheses for every step: it goes on diffusing, it goes on running, or it sets off in a new
direction. After a measurement the last two are merged again into one Gaussian of the same moments
(Blom & Bar-Shalom, IEEE Trans. Autom. Control 33, 780, 1988). Axes are independent given the hypothesis.

A state is an array of `STATE` numbers: the probability of being directed; position and variance (z, y, x) if
Brownian; position, velocity, and their variances and covariance (z, y, x each) if directed. A motion is the
array (6,) that `MotionModel.array` makes. Units are µm and the usual interval between frames. Arguments are
states (22,), motions (6,), hypotheses (3, 16), and positions and variances (3,), z, y, x, unless their
function says otherwise; all else are numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.compiled import njit

Array = NDArray[np.float64]

STATE = 22
# Offsets into a state (22,): a probability, then seven triples (z, y, x).
DIRECTED, BROWN_X, BROWN_P, RUN_X, RUN_V, RUN_XX, RUN_XV, RUN_VV = 0, 1, 4, 7, 10, 13, 16, 19
HYPOTHESES = (3, 16)
"""Going on diffusing, going on running, setting off; each a weight and (z, y, x) of the five moments."""
# Offsets into a hypothesis (16,): its weight, then five triples (z, y, x).
WEIGHT, X, V, XX, XV, VV = 0, 1, 4, 7, 10, 13
# Offsets into a motion (6,).
BROWN_VAR, RUN_VAR, SPEED_VAR, TURN_VAR, REDRAW, FRACTION = 0, 1, 2, 3, 4, 5
LOG_TAU = math.log(2 * math.pi)
MOST_STEPS = 100
"""Longer times are predicted in so many steps, which are then longer than the usual interval."""


@njit(nogil=True, cache=True)
def initialise(state: Array, position: Array, variance: Array, motion: Array) -> None:
    """State after the first measurement."""
    state[DIRECTED] = motion[FRACTION]
    for a in range(3):
        state[BROWN_X + a] = state[RUN_X + a] = position[a]
        state[BROWN_P + a] = state[RUN_XX + a] = variance[a]
        state[RUN_V + a] = state[RUN_XV + a] = 0.0
        state[RUN_VV + a] = motion[SPEED_VAR]


@njit(nogil=True, cache=True)
def predict_one(state: Array, time: float, motion: Array, hypotheses: Array) -> None:
    """The three hypotheses about one interval later (mixing and Kalman prediction).

    Variances of diffusion and of turning grow with time, a velocity is covered for all of it, and a motion
    outlasts it with the probability (1 − redraw)^time.
    """
    running = state[DIRECTED]
    stay, redraw = 1 - motion[REDRAW], motion[REDRAW]
    if time != 1.0:
        stay = stay**time
        redraw = 1 - stay
    # Who diffuses next was diffusing before, or was running and stopped; likewise for who sets off.
    stopped = running * redraw * (1 - motion[FRACTION])
    diffusing = (1 - running) * (stay + redraw * (1 - motion[FRACTION])) + stopped
    stopped /= max(diffusing, 1e-300)
    hypotheses[0, WEIGHT] = diffusing
    hypotheses[1, WEIGHT] = running * stay
    hypotheses[2, WEIGHT] = redraw * motion[FRACTION]
    for a in range(3):
        apart = state[RUN_X + a] - state[BROWN_X + a]
        for h, share in ((0, stopped), (2, running)):
            hypotheses[h, X + a] = state[BROWN_X + a] + share * apart
            spread = (1 - share) * state[BROWN_P + a] + share * state[RUN_XX + a]
            hypotheses[h, XX + a] = spread + share * (1 - share) * apart * apart
        hypotheses[0, XX + a] += motion[BROWN_VAR] * time
        hypotheses[0, V + a] = hypotheses[0, XV + a] = hypotheses[0, VV + a] = 0.0
        hypotheses[2, XX + a] += motion[SPEED_VAR] * time * time + motion[RUN_VAR] * time
        hypotheses[2, V + a] = 0.0
        hypotheses[2, XV + a] = motion[SPEED_VAR] * time
        hypotheses[2, VV + a] = motion[SPEED_VAR]
        hypotheses[1, X + a] = state[RUN_X + a] + state[RUN_V + a] * time
        hypotheses[1, V + a] = state[RUN_V + a]
        turned = state[RUN_VV + a] + motion[TURN_VAR] * time
        covered = 2 * state[RUN_XV + a] * time
        hypotheses[1, XX + a] = state[RUN_XX + a] + covered + turned * time * time + motion[RUN_VAR] * time
        hypotheses[1, XV + a] = state[RUN_XV + a] + turned * time
        hypotheses[1, VV + a] = turned


@njit(nogil=True, cache=True)
def merge(hypotheses: Array, state: Array) -> None:
    """State from weighted hypotheses: the two directed ones become one of equal moments."""
    going, setting_off = hypotheses[1, WEIGHT], hypotheses[2, WEIGHT]
    running = going + setting_off
    state[DIRECTED] = running / max(running + hypotheses[0, WEIGHT], 1e-300)
    new = setting_off / max(running, 1e-300)
    old = 1 - new
    for a in range(3):
        state[BROWN_X + a], state[BROWN_P + a] = hypotheses[0, X + a], hypotheses[0, XX + a]
        dx = hypotheses[2, X + a] - hypotheses[1, X + a]
        dv = hypotheses[2, V + a] - hypotheses[1, V + a]
        state[RUN_X + a] = hypotheses[1, X + a] + new * dx
        state[RUN_V + a] = hypotheses[1, V + a] + new * dv
        both = old * new
        state[RUN_XX + a] = old * hypotheses[1, XX + a] + new * hypotheses[2, XX + a] + both * dx * dx
        state[RUN_XV + a] = old * hypotheses[1, XV + a] + new * hypotheses[2, XV + a] + both * dx * dv
        state[RUN_VV + a] = old * hypotheses[1, VV + a] + new * hypotheses[2, VV + a] + both * dv * dv


@njit(nogil=True, cache=True)
def predict(state: Array, time: float, motion: Array, ahead: Array, hypotheses: Array) -> None:
    """Hypotheses some time later, with no measurement in between; ``ahead`` is scratch memory.

    In steps of about one interval: in a long time a particle changes its motion more than once.
    """
    steps = min(max(1, int(time + 0.5)), MOST_STEPS)
    ahead[:] = state
    for _ in range(steps - 1):
        predict_one(ahead, time / steps, motion, hypotheses)
        merge(hypotheses, ahead)
    predict_one(ahead, time / steps, motion, hypotheses)


@njit(nogil=True, cache=True)
def _log_weight(hypothesis: Array, position: Array, variance: Array) -> float:
    exponent = 0.0
    volume = 1.0
    for a in range(3):
        total = hypothesis[XX + a] + variance[a]
        exponent += (position[a] - hypothesis[X + a]) ** 2 / total
        volume *= total
    return math.log(max(hypothesis[WEIGHT], 1e-300)) - 0.5 * (exponent + math.log(volume) + 3 * LOG_TAU)


@njit(nogil=True, cache=True)
def log_density(hypotheses: Array, position: Array, variance: Array) -> float:
    """Log-density (µm⁻³) of measuring the particle at a position, localisation variance included."""
    a = _log_weight(hypotheses[0], position, variance)
    b = _log_weight(hypotheses[1], position, variance)
    c = _log_weight(hypotheses[2], position, variance)
    top = max(a, b, c)
    return top + math.log(math.exp(a - top) + math.exp(b - top) + math.exp(c - top))


@njit(nogil=True, cache=True)
def update(hypotheses: Array, position: Array, variance: Array, state: Array) -> float:
    """State after a measurement (Kalman update of each hypothesis); its log-density (µm⁻³)."""
    found = log_density(hypotheses, position, variance)
    for h in range(3):
        hypothesis = hypotheses[h]  # (16,), changed in place
        hypothesis[WEIGHT] = math.exp(_log_weight(hypothesis, position, variance) - found)
        for a in range(3):
            total = hypothesis[XX + a] + variance[a]
            innovation = position[a] - hypothesis[X + a]
            gain, velocity_gain = hypothesis[XX + a] / total, hypothesis[XV + a] / total
            hypothesis[X + a] += gain * innovation
            hypothesis[V + a] += velocity_gain * innovation
            hypothesis[VV + a] -= velocity_gain * hypothesis[XV + a]
            hypothesis[XV + a] *= 1 - gain
            hypothesis[XX + a] *= 1 - gain
    merge(hypotheses, state)
    return found


@njit(nogil=True, cache=True)
def filter_tracks(time: Array, position: Array, variance: Array, previous: NDArray, motion: Array) -> Array:
    """Filter all particles along their links; rows are ordered by time.

    Parameters
    ----------
    time
        (N,) time of each object, in usual intervals.
    position, variance
        (N, 3) measured position (µm) and its variance (µm²).
    previous
        (N,) object before on the same track, or −1.

    Returns
    -------
    numpy.ndarray
        (N,) log-density of each object's position given those before on its track; 0 for a first one.
    """
    states = np.empty((len(time), STATE))  # (N, 22)
    hypotheses, ahead = np.empty(HYPOTHESES), np.empty(STATE)  # (3, 16), (22,)
    found = np.zeros(len(time))  # (N,)
    for i in range(len(time)):
        if previous[i] < 0:
            initialise(states[i], position[i], variance[i], motion)
            continue
        predict(states[previous[i]], time[i] - time[previous[i]], motion, ahead, hypotheses)
        found[i] = update(hypotheses, position[i], variance[i], states[i])
    return found
