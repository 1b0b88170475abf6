"""How the signal of a movie changes over time: its trend, and the half-life of bleaching.

Works on the brightness of a few whole frames; single particles are not followed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import linregress, t

FEWEST_FRAMES = 3  # two points always lie on a line, so that its error would be unknown
SIGNIFICANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class SignalTrend:
    """How the signal changes; ``None`` where the frames do not tell.

    Attributes
    ----------
    signal_change
        Signal of the last frame over that of the first, less 1: −0.4 says that 40 % are gone. Where none is
        noticed in the last frame, the least that is gone; None if it need not be less.
    signal_slope_per_frame
        Slope b of the least-squares line through the natural logarithm of the signal, 1/frame: the
        relative change from one frame to the next.
    half_life_s
        ln 2 / k, s, for the bleaching rate k: minus the slope of such a line over the times of the frames.
        The half-life of first-order (mono-exponential) bleaching [1]_. Only where k is above 0 by Student's
        test of a regression slope [2]_ (one-sided, level 1 %), so that the scatter of a steady signal is not
        taken for bleaching.

    References
    ----------
    .. [1] Song, Hennink, Young & Tanke, Biophysical Journal 68, 2588 (1995).
    .. [2] Draper & Smith, Applied Regression Analysis, 3rd ed., chapter 1.4 (Wiley 1998).
    """

    signal_change: float | None = None
    signal_slope_per_frame: float | None = None
    half_life_s: float | None = None


def signal_trend(
    frames: Sequence[int], signals: Sequence[float], times_s: Sequence[float], least_signal: float = 0.0
) -> SignalTrend:
    """Trend of the signal over a movie.

    Parameters
    ----------
    frames
        Numbers of the frames looked at, increasing.
    signals
        ``FrameMetrics.signal`` of each, counts. The line ends before the first frame without signal, which
        has no logarithm.
    times_s
        When they were recorded, s.
    least_signal
        What would have been noticed in the last frame, counts.
    """
    if len(frames) < 2 or signals[0] <= 0:
        return SignalTrend()
    last = signals[-1] or least_signal
    change = last / signals[0] - 1 if signals[-1] or last < signals[0] else None
    shining = list(itertools.takewhile(lambda signal: signal > 0, signals))
    if len(shining) < FEWEST_FRAMES:
        return SignalTrend(signal_change=change)
    slope = float(linregress(frames[: len(shining)], np.log(shining)).slope)
    decay = linregress(times_s[: len(shining)], np.log(shining))
    bleaches = -decay.slope > decay.stderr * t.isf(SIGNIFICANCE, len(shining) - 2)
    half_life_s = math.log(2) / -float(decay.slope) if bleaches else None
    return SignalTrend(signal_change=change, signal_slope_per_frame=slope, half_life_s=half_life_s)
