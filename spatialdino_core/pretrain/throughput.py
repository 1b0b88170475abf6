"""How fast training is: crops and tokens per second, share of the matrix rate, time spent waiting."""

from __future__ import annotations

import itertools
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.pretrain.batches import GLOBAL_VIEWS
from spatialdino_core.pretrain.parameters import PretrainParameters

Item = TypeVar("Item")


@dataclass(frozen=True)
class CropCost:
    """What one stored crop costs, all its views together.

    Attributes
    ----------
    tokens
        Tokens that the student encodes.
    operations
        Floating-point operations of a training step, forward and backward, student and teacher.
    """

    tokens: int
    operations: float


def crop_cost(parameters: PretrainParameters, architecture: EncoderParameters) -> CropCost:
    """Count by formula; profilers miss fused attention on some devices.

    A block of width D and hidden width h costs 2 n (4 D² + m D h) + 4 n² D operations for n tokens, where
    m is 2 for an MLP and 3 for SwiGLU; a linear layer 2 per weight and token. A backward pass costs twice
    the forward pass, and a forward pass more with activation checkpointing.
    """
    big, small = (
        _view_operations(architecture, side)
        for side in (parameters.global_crop_voxels, parameters.local_crop_voxels)
    )
    hidden, bottleneck = parameters.head_hidden_dim, parameters.head_bottleneck_dim
    widths = (architecture.embed_dim, hidden, hidden, bottleneck, parameters.prototypes)
    head = sum(2.0 * a * b for a, b in itertools.pairwise(widths))
    share = parameters.masked_share * (parameters.mask_ratio_min + parameters.mask_ratio_max) / 2
    guessed = GLOBAL_VIEWS * share * (parameters.global_crop_voxels // architecture.patch_voxels) ** 3
    teacher = GLOBAL_VIEWS * big[1] + (GLOBAL_VIEWS + guessed) * head
    student = teacher + parameters.local_crops * (small[1] + head)
    passes = 4 if parameters.activation_checkpointing else 3
    tokens = GLOBAL_VIEWS * big[0] + parameters.local_crops * small[0]
    return CropCost(tokens, passes * student + teacher)


def _view_operations(architecture: EncoderParameters, side: int) -> tuple[int, float]:
    """Tokens and operations of one view's forward pass."""
    patches = (side // architecture.patch_voxels) ** 3
    tokens = patches + 1 + architecture.registers + architecture.test_time_registers
    width = architecture.embed_dim
    matrices = 3 if architecture.feed_forward == "swiglu" else 2
    linear = 2.0 * tokens * (4 * width**2 + matrices * width * architecture.mlp_dim)
    attention = 4.0 * tokens**2 * width
    embedding = 2.0 * patches * width * architecture.channels * architecture.patch_voxels**3
    return tokens, architecture.depth * (linear + attention) + embedding


def matrix_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.2) -> float:
    """Operations per second of a large matrix product, the best of repeated ones: what could be reached."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device).to(dtype)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        _wait(device)
        start = time.perf_counter()
        a @ a
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2.0 * side**3 / best


class Stopwatch:
    """Time since the last reading, and how much of it was spent waiting for data."""

    def __init__(self, parameters: PretrainParameters, architecture: EncoderParameters) -> None:
        self.batch_size = parameters.batch_size
        self.cost = crop_cost(parameters, architecture)
        self.rate = 0.0
        self.start = time.perf_counter()
        self.waited = 0.0
        self.steps = 0

    def waiting(self, batches: Iterable[Item]) -> Iterator[Item]:
        """The same items; the time until each comes counts as waiting."""
        source = iter(batches)
        while True:
            start = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            self.waited += time.perf_counter() - start
            self.steps += 1
            yield item

    def read(self, device: torch.device, processes: int) -> dict[str, float]:
        """Figures since the last reading, of all processes together, and begin anew.

        ``mfu_percent`` is the share of the measured matrix rate of all devices that the formula of
        `crop_cost` accounts for; 0 where that rate was not measured.
        """
        _wait(device)
        seconds = max(time.perf_counter() - self.start, 1e-9)
        crops = self.batch_size * self.steps / seconds
        figures = {
            "crops_per_s": crops,
            "tokens_per_s": crops * self.cost.tokens,
            "mfu_percent": 100 * crops * self.cost.operations / (self.rate * processes) if self.rate else 0.0,
            "data_wait_percent": 100 * self.waited / seconds,
            "peak_memory_mb": peak_memory_mb(device),
        }
        self.start, self.waited, self.steps = time.perf_counter(), 0.0, 0
        return figures


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory so far (MB): of the GPU's tensors, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
