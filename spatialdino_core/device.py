"""Which device tensors are computed on. The only place that decides."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from spatialdino_core.errors import BadInputError

if TYPE_CHECKING:
    import torch


def choose_device(wanted: str) -> torch.device:
    """The device for a config value of ``auto``, ``cpu`` or ``cuda``."""
    import torch

    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise BadInputError(
            "config key 'device'",
            found="cuda, but no CUDA device is visible here",
            expected="a machine with a GPU, or device: auto or cpu",
            remedy="Set device: auto, or run on a GPU node.",
        )
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def gpu_if_wanted(wanted: str) -> torch.device | None:
    """The GPU for such a value; None where what has compiled code beside its tensors takes the CPU.

    torch, which takes seconds to load, is loaded only where there may be a GPU.
    """
    if wanted == "cpu" or (wanted == "auto" and not gpu_is_here()):
        return None
    chosen = choose_device(wanted)
    return chosen if chosen.type == "cuda" else None


def gpu_is_here() -> bool:
    """Whether this machine shows a GPU, told without torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(Path("/dev").glob("nvidia[0-9]*"))
