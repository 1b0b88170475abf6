"""In what arithmetic an encoder computes."""

from __future__ import annotations

import torch

from spatialdino_core.parameters import Precision


def arithmetic(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of products; ``auto`` is bfloat16 on a GPU and float32 on the CPU."""
    half = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if half else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Context in which products on ``device`` are computed in ``dtype``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)
