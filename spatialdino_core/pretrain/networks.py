"""The two networks of self-distillation: a student that learns, a teacher that follows it slowly."""

from __future__ import annotations

import copy

import torch
from torch import nn

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import build_encoder
from spatialdino_core.pretrain.heads import ProjectionHead
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.randomness import Purpose, torch_generator


class Network(nn.Module):
    """Encoder with one projection head for class tokens and another for patch tokens."""

    def __init__(self, parameters: PretrainParameters, architecture: EncoderParameters, seed: int) -> None:
        super().__init__()
        generator = torch_generator(seed, Purpose.WEIGHTS)
        self.encoder = build_encoder(architecture, generator)
        self.class_head = ProjectionHead(architecture.embed_dim, parameters, generator)
        self.patch_head = ProjectionHead(architecture.embed_dim, parameters, generator)


def teacher_of(student: Network) -> Network:
    """Copy of the student that no gradient reaches: at step 0 both say the same."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def follow(teacher: Network, student: Network, momentum: float) -> None:
    """Exponential moving average: teacher <- momentum * teacher + (1 - momentum) * student."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)


def adamw(student: Network) -> torch.optim.AdamW:
    """AdamW whose weight decay spares biases, norms, LayerScale and single tokens.

    Learning rate and weight decay are set at every step by `set_rates`.
    """
    weights = list(student.named_parameters())
    decayed = [weight for name, weight in weights if weight.ndim > 1 and not name.endswith(_TOKENS)]
    spared = [weight for name, weight in weights if weight.ndim == 1 or name.endswith(_TOKENS)]
    groups = [{"params": decayed, "decays": True}, {"params": spared, "decays": False}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=True)


_TOKENS = ("_token", "_tokens")


def set_rates(optimiser: torch.optim.AdamW, learning_rate: float, weight_decay: float) -> None:
    """Set what the schedules say for the coming step."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
        group["weight_decay"] = weight_decay if group["decays"] else 0.0
