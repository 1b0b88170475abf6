"""How learning rate, weight decay, teacher momentum and teacher temperature change, in optimiser steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spatialdino_core.pretrain.parameters import PretrainParameters


@dataclass(frozen=True)
class StepSettings:
    """Values that hold during one optimiser step."""

    learning_rate: float
    weight_decay: float
    ema_momentum: float
    teacher_temperature: float
    encoder_frozen: bool = False
    prototypes_frozen: bool = False


def settings_at(parameters: PretrainParameters, step: int) -> StepSettings:
    """Settings of optimiser step ``step``, counted from 0 to ``parameters.steps - 1``."""
    last = parameters.steps - 1
    rate = warmup_cosine(
        step, parameters.learning_rate, parameters.final_learning_rate, parameters.warmup_steps, last
    )
    return StepSettings(
        learning_rate=rate * parameters.learning_rate_scale,
        weight_decay=cosine(step, parameters.weight_decay, parameters.final_weight_decay, last),
        ema_momentum=cosine(step, parameters.ema_momentum, parameters.final_ema_momentum, last),
        teacher_temperature=linear(
            step,
            parameters.teacher_temperature,
            parameters.final_teacher_temperature,
            parameters.teacher_temperature_warmup_steps,
        ),
        encoder_frozen=step < parameters.frozen_encoder_steps,
        prototypes_frozen=step < parameters.frozen_prototypes_steps,
    )


def cosine(step: int, start: float, end: float, last: int) -> float:
    """Half a cosine from ``start`` at step 0 to ``end`` at step ``last``, and ``end`` thereafter."""
    done = min(step / last, 1.0) if last > 0 else 1.0
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def linear(step: int, start: float, end: float, last: int) -> float:
    """Straight line from ``start`` at step 0 to ``end`` at step ``last``, and ``end`` thereafter."""
    done = min(step / last, 1.0) if last > 0 else 1.0
    return start + (end - start) * done


def warmup_cosine(step: int, peak: float, end: float, warmup: int, last: int) -> float:
    """Linear warm-up that reaches ``peak`` at step ``warmup``, then `cosine` to ``end`` at ``last``.

    The first step already learns: it uses ``peak / (warmup + 1)``.

    Examples
    --------
    >>> [warmup_cosine(step, 1.0, 0.0, warmup=3, last=9) for step in (0, 1, 2, 3, 6, 9)]
    [0.25, 0.5, 0.75, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return cosine(step - warmup, peak, end, last - warmup)
