"""Which device tensors are computed on. The only place that decides."""

from __future__ import annotations

import torch

from spatialdino_core.errors import BadInputError


def choose_device(wanted: str) -> torch.device:
    """The device for a config value of ``auto``, ``cpu`` or ``cuda``."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise BadInputError(
            "config key 'device'",
            found="cuda, but no CUDA device is visible here",
            expected="a machine with a GPU, or device: auto or cpu",
            remedy="Set device: auto, or run on a GPU node.",
        )
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")
