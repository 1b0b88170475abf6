"""Which prototypes are in use: each one's share of the targets, over the last many samples."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

WINDOW = 10  # samples per prototype
DEAD_SHARE = 0.1  # of the fair share 1 / K


class PrototypeUse:
    """Mean targets over an exponential window of 10 K samples, K being the number of prototypes.

    A prototype is dead if its share of the mean target is below a tenth of the fair share 1 / K. That can
    only be said of many samples: if targets are sharp, a prototype with a fair share is missed by n samples
    with probability exp(-n / K), one in three when n = K. So nothing is said before 10 K samples have been
    seen: of these, such a prototype gets fewer than two with a probability of 5e-4.
    """

    def __init__(self, prototypes: int) -> None:
        self.prototypes = prototypes
        self.shares = torch.zeros(prototypes, dtype=torch.float64)
        self.samples = 0

    def observe(self, targets: Tensor) -> None:
        """Take note of (n, K) targets; nothing waits for the device."""
        if not len(targets):
            return
        self.shares = self.shares.to(targets.device)
        keep = math.exp(-len(targets) / (WINDOW * self.prototypes))
        self.shares.lerp_(targets.mean(0, dtype=torch.float64), 1 - keep)
        self.samples += len(targets)

    def dead(self) -> float:
        """Share of dead prototypes; NaN before 10 K samples."""
        if self.samples < WINDOW * self.prototypes:
            return math.nan
        # Early on the window is not yet full.
        filled = self.shares / self.shares.sum()
        return float((filled < DEAD_SHARE / self.prototypes).double().mean())

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"shares": self.shares.cpu(), "samples": self.samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self.shares, self.samples = state["shares"].clone(), state["samples"]
