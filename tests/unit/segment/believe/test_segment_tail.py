"""The tail of noise where bright noise is heavier than dark: drawn here, with particles in it."""

from __future__ import annotations

import numpy as np
import pytest

from spatialdino_core.segment.believe.tail import continued_tail, noise_tail

FRAMES, START = 5, 2.0


def maxima(rate: float, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Z-scores with ``rate · exp(−(z² − 4) / decay)`` maxima per frame above z."""
    return np.sqrt(START**2 + rng.exponential(decay, rng.poisson(rate * FRAMES)))


@pytest.mark.parametrize("bright_decay", [2.6, 4.0])
@pytest.mark.parametrize("particles", [0, 60])
def test_heavier_bright_noise_is_expected_from_its_moderate_maxima(
    bright_decay: float, particles: int
) -> None:
    rng = np.random.default_rng(3)
    dark = maxima(2500, 2.6, rng)
    bright = np.concatenate([maxima(2500, bright_decay, rng), rng.normal(8, 2, particles * FRAMES)])
    tail = continued_tail(noise_tail(dark, bright, FRAMES, FRAMES), bright, FRAMES)
    for z in (4.0, 4.5, 5.0):
        expected = 2500 * np.exp(-(z**2 - START**2) / bright_decay)
        assert expected / 1.3 < tail.rate(z) < 2.0 * expected


def test_dark_maxima_alone_would_miss_it() -> None:
    rng = np.random.default_rng(3)
    dark, bright = maxima(2500, 2.6, rng), maxima(2500, 4.0, rng)
    alone = noise_tail(dark, np.empty(0), FRAMES, FRAMES)
    assert alone.rate(4.5) < 0.2 * continued_tail(alone, bright, FRAMES).rate(4.5)


def test_few_maxima_change_nothing() -> None:
    dark = maxima(20, 2.6, np.random.default_rng(1))
    tail = noise_tail(dark, dark, FRAMES, FRAMES)
    assert continued_tail(tail, dark, FRAMES) == tail
