"""Random numbers by counter: each draw depends on the seed and on what it is for, never on the past.

So a run that resumes at any step draws what the uninterrupted run would have drawn, with no generator
state to store.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What random numbers are for; each has a stream of its own."""

    WEIGHTS = 0
    VIEWS = 2
    MASKS = 3
    STOCHASTIC_DEPTH = 4
    REPAIR = 5


def numpy_generator(seed: int, purpose: Purpose, *counters: int) -> np.random.Generator:
    """NumPy generator of one purpose at one place, e.g. ``(seed, Purpose.VIEWS, step, item)``."""
    return np.random.default_rng([seed, int(purpose), *counters])


def torch_generator(seed: int, purpose: Purpose, *counters: int) -> torch.Generator:
    """CPU torch generator of one purpose at one place."""
    state = np.random.SeedSequence([seed, int(purpose), *counters]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
