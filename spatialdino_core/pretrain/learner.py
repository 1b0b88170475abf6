"""One optimiser step of self-distillation, and the state that it changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.pretrain.batches import GLOBAL_VIEWS, Batch
from spatialdino_core.pretrain.losses import dino_loss, ibot_loss, koleo_loss
from spatialdino_core.pretrain.networks import Network, adamw, follow, set_rates, teacher_of
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.schedules import StepSettings
from spatialdino_core.pretrain.targets import TeacherTargets


@dataclass(frozen=True)
class Teaching:
    """What the teacher said about a batch: tokens, logits of its heads, and targets made of them."""

    class_tokens: Tensor
    patch_tokens: Tensor
    class_logits: Tensor
    patch_logits: Tensor
    class_targets: Tensor
    patch_targets: Tensor


@dataclass(frozen=True)
class StepOutcome:
    """What happened in one step; ``finite`` is False where the step was skipped."""

    loss: float
    dino_loss: float
    ibot_loss: float
    koleo_loss: float
    gradient_norm: float
    finite: bool
    teaching: Teaching


class Learner:
    """Student, teacher, target state and optimiser.

    Parameters
    ----------
    parameters, architecture
        Recipe and encoder.
    seed
        What the initial weights depend on.
    device
        Where tensors live.
    """

    def __init__(
        self, parameters: PretrainParameters, architecture: EncoderParameters, seed: int, device: torch.device
    ) -> None:
        self.parameters = parameters
        self.student = Network(parameters, architecture, seed).to(device)
        self.teacher = teacher_of(self.student)
        self.class_targets = TeacherTargets(parameters).to(device)
        self.patch_targets = TeacherTargets(parameters).to(device)
        self.optimiser = adamw(self.student)

    def learn(
        self, batch: Batch, settings: StepSettings, generator: torch.Generator | None = None
    ) -> StepOutcome:
        """Take one optimiser step; if loss or gradient is not finite, change nothing.

        Parameters
        ----------
        batch
            Views and masks, on the learner's device.
        settings
            Learning rate, weight decay, momentum and temperature of this step.
        generator
            CPU generator of stochastic depth.
        """
        teaching = self._teach(batch, settings.teacher_temperature)
        dino, ibot, koleo = self._losses(batch, teaching, generator)
        weights = self.parameters
        loss = weights.dino_weight * dino + weights.ibot_weight * ibot + weights.koleo_weight * koleo
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.student.parameters(), weights.clip_norm)
        finite = bool(torch.isfinite(loss) & torch.isfinite(norm))
        if finite:
            self._update(teaching, settings)
        return StepOutcome(
            loss=float(loss.detach()),
            dino_loss=float(dino.detach()),
            ibot_loss=float(ibot.detach()),
            koleo_loss=float(koleo.detach()),
            gradient_norm=float(norm),
            finite=finite,
            teaching=teaching,
        )

    @torch.no_grad()
    def _teach(self, batch: Batch, temperature: float) -> Teaching:
        output = self.teacher.encoder(batch.global_views)
        class_logits = self.teacher.class_head(output.class_token)
        patch_logits = self.teacher.patch_head(output.patch_tokens[batch.masks])
        return Teaching(
            output.class_token,
            output.patch_tokens,
            class_logits,
            patch_logits,
            self.class_targets(class_logits, temperature),
            self.patch_targets(patch_logits, temperature),
        )

    def _losses(
        self, batch: Batch, teaching: Teaching, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        items, temperature = len(batch.crops), self.parameters.student_temperature
        output = self.student.encoder(batch.global_views, batch.masks, generator=generator)
        class_tokens = output.class_token
        if len(batch.local_views):
            local = self.student.encoder(batch.local_views, generator=generator)
            class_tokens = torch.cat([class_tokens, local.class_token])
        student_logits = self.student.class_head(class_tokens).unflatten(0, (-1, items))
        targets = teaching.class_targets.unflatten(0, (GLOBAL_VIEWS, items))
        patch_logits = self.student.patch_head(output.patch_tokens[batch.masks])
        return (
            dino_loss(student_logits, targets, temperature),
            ibot_loss(patch_logits, teaching.patch_targets, batch.masks, temperature),
            torch.stack([koleo_loss(view) for view in output.class_token.split(items)]).mean(),
        )

    def _update(self, teaching: Teaching, settings: StepSettings) -> None:
        set_rates(self.optimiser, settings.learning_rate, settings.weight_decay)
        self.optimiser.step()
        follow(self.teacher, self.student, settings.ema_momentum)
        self.class_targets.update(teaching.class_logits)
        self.patch_targets.update(teaching.patch_logits)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {name: getattr(self, name).state_dict() for name in self._PARTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        for name in self._PARTS:
            getattr(self, name).load_state_dict(state[name])

    _PARTS = ("student", "teacher", "class_targets", "patch_targets", "optimiser")
