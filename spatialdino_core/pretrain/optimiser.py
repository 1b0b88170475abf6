"""The optimiser, and how fast each part of the student may learn. Not when: see ``schedules.py``.

References
----------
Decoupled weight decay: Loshchilov and Hutter, ICLR 2019. Layer-wise decay of the learning rate: Clark et
al., ELECTRA, ICLR 2020; a slower patch embedding: Chen et al., An Empirical Study of Training
Self-Supervised Vision Transformers, ICCV 2021; prototypes that wait: Caron et al., DINO, ICCV 2021.
"""

from __future__ import annotations

import torch

from spatialdino_core.pretrain.networks import Network
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.schedules import StepSettings

_TOKENS = ("_token", "_tokens", "positions.table")


def adamw(student: Network, parameters: PretrainParameters) -> torch.optim.AdamW:
    """AdamW in groups of equal rates, whose weight decay spares biases, norms, LayerScale and tokens.

    Learning rate and weight decay are set at every step by `set_rates`.
    """
    groups: dict[tuple[str, float, bool], list[torch.nn.Parameter]] = {}
    depth = student.encoder.architecture.depth
    for name, weight in student.named_parameters():
        decays = weight.ndim > 1 and not name.endswith(_TOKENS)
        groups.setdefault((_part(name), _rate(name, depth, parameters), decays), []).append(weight)
    described = [
        {"params": weights, "part": part, "rate": rate, "decays": decays}
        for (part, rate, decays), weights in groups.items()
    ]
    return torch.optim.AdamW(described, betas=(0.9, 0.999), fused=True)


def set_rates(optimiser: torch.optim.AdamW, settings: StepSettings) -> None:
    """Set what the schedules say for the coming step."""
    frozen = {"encoder": settings.encoder_frozen, "prototypes": settings.prototypes_frozen}
    for group in optimiser.param_groups:
        still = frozen.get(group["part"], False)
        group["lr"] = 0.0 if still else settings.learning_rate * group["rate"]
        group["weight_decay"] = settings.weight_decay if group["decays"] else 0.0


def _part(name: str) -> str:
    if name.startswith("encoder."):
        return "encoder"
    return "prototypes" if name.endswith(".prototypes") else "heads"


def _rate(name: str, depth: int, parameters: PretrainParameters) -> float:
    """Learning rate of a weight over that of the last block and the heads."""
    if not name.startswith("encoder."):
        return 1.0
    if name.startswith("encoder.blocks."):
        return parameters.layer_decay ** (depth - 1 - int(name.split(".")[2]))
    if name.startswith("encoder.norm."):
        return 1.0
    embedding = name.startswith("encoder.patch_embed.")
    return parameters.layer_decay**depth * (parameters.patch_embedding_rate if embedding else 1.0)
