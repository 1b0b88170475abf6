"""Is the network collapsing? Figures on class tokens, patch tokens and targets, and alarms on them.

Three places, because tokens can look healthy while the head's output is uniform.

References
----------
RankMe: Garrido et al., RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised
Representations by Their Rank, ICML 2023.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from spatialdino_core.pretrain.learner import Teaching
from spatialdino_core.pretrain.parameters import PretrainParameters

MAX_TOKENS = 512
UNIFORM_LOSS_TOLERANCE = 0.02
UNIFORM_ENTROPY = 0.98
POINT_ENTROPY = 0.05
POINT_PERPLEXITY = 5.0
MAX_CLASS_COSINE = 0.95
MIN_RANK = 0.1


class CollapseMonitor:
    """Watches every step and says, after the warm-up, which kinds of collapse the figures show.

    Alarms
    ------
    uniform-collapse
        The class loss has stayed within 2 % of ln K for ``uniform_alarm_steps`` steps, or the mean
        entropy of the class targets exceeds 98 % of ln K: every view looks like every prototype.
    point-collapse
        Targets of almost no entropy that use fewer than 5 prototypes.
    class-cosine
        Mean cosine between class tokens above 0.95.
    rank
        RankMe of class or patch tokens below 10 % of what their number and width allow.
    """

    def __init__(self, parameters: PretrainParameters) -> None:
        self.max_entropy = math.log(parameters.prototypes)
        self.warmup_steps = parameters.warmup_steps
        self.uniform_alarm_steps = parameters.uniform_alarm_steps
        self.uniform_steps = 0

    def observe(self, dino_loss: float) -> None:
        """Take note of the class loss of one step."""
        near = abs(dino_loss - self.max_entropy) < UNIFORM_LOSS_TOLERANCE * self.max_entropy
        self.uniform_steps = self.uniform_steps + 1 if near else 0

    def alarms(self, step: int, figures: dict[str, float], class_tokens: Tensor) -> list[str]:
        """Names of the alarms that the figures of this step raise."""
        if step < self.warmup_steps:
            return []
        rank_limit = MIN_RANK * min(class_tokens.shape[1], len(class_tokens) - 1)
        entropy = figures["class_target_entropy"]
        uniform = entropy > UNIFORM_ENTROPY * self.max_entropy
        point = entropy < POINT_ENTROPY and figures["class_target_perplexity"] < POINT_PERPLEXITY
        raised = {
            "uniform-collapse": uniform or self.uniform_steps >= self.uniform_alarm_steps,
            "point-collapse": point,
            "class-cosine": figures["class_cosine"] > MAX_CLASS_COSINE,
            "rank": min(figures["class_rankme"], figures["patch_rankme"]) < rank_limit,
        }
        return [name for name, holds in raised.items() if holds]


def figures(teaching: Teaching) -> dict[str, float]:
    """Cosine, RankMe and spread of the teacher's tokens; entropy and perplexity of its targets."""
    patches = teaching.patch_tokens.flatten(0, 1)
    patches = patches[:: max(1, len(patches) // MAX_TOKENS)][:MAX_TOKENS]
    found = {}
    for name, tokens in (("class", teaching.class_tokens), ("patch", patches)):
        found[f"{name}_cosine"] = mean_cosine(tokens)
        found[f"{name}_rankme"] = rank_me(tokens)
        found[f"{name}_std"] = float(tokens.std(dim=0).mean())
    for name, targets in (("class", teaching.class_targets), ("patch", teaching.patch_targets)):
        found[f"{name}_target_entropy"] = float(_entropy(targets).mean())
        found[f"{name}_target_perplexity"] = float(_entropy(targets.mean(0)).exp())
    return found


def mean_cosine(tokens: Tensor) -> float:
    """Mean cosine between different rows of (n, D) tokens, n >= 2."""
    count = len(tokens)
    total = functional.normalize(tokens.double(), dim=-1).sum(0).square().sum()
    return float((total - count) / (count * (count - 1)))


def rank_me(tokens: Tensor) -> float:
    """Effective rank: exp of the entropy of the normalised singular values of centred (n, D) tokens."""
    values = torch.linalg.svdvals((tokens - tokens.mean(0)).double())
    shares = values / values.sum().clamp(min=torch.finfo(torch.float64).tiny)
    return float(_entropy(shares).exp())


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(-1)
