"""One optimiser step of self-distillation, and the state that it changes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spatialdino_core.pretrain.batches import GLOBAL_VIEWS, Batch
from spatialdino_core.pretrain.distributed import any_of, is_distributed, summed
from spatialdino_core.pretrain.losses import dino_loss, ibot_loss, koleo_loss
from spatialdino_core.pretrain.networks import Answer, Network, follow, teacher_of
from spatialdino_core.pretrain.optimiser import adamw, set_rates
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.schedules import StepSettings
from spatialdino_core.pretrain.targets import TeacherTargets
from spatialdino_core.pretrain.teaching import Teaching

LOSSES = ("loss", "dino_loss", "ibot_loss", "koleo_loss")


@dataclass(frozen=True)
class StepOutcome:
    """What happened in one step.

    Attributes
    ----------
    loss, dino_loss, ibot_loss, koleo_loss
        Means over the micro-batches of all processes.
    gradient_norm
        Before clipping.
    finite
        Whether losses and gradient were; else the step was skipped, by all processes together.
    teaching, student_class_logits
        What teacher and student said of this process's last micro-batch.
    """

    loss: float
    dino_loss: float
    ibot_loss: float
    koleo_loss: float
    gradient_norm: float
    finite: bool
    teaching: Teaching
    student_class_logits: Tensor


class Learner:
    """Student, teacher, target state and optimiser.

    Parameters
    ----------
    parameters
        The recipe.
    student
        Network to train, on the CPU.
    device
        Where to train it.
    """

    def __init__(self, parameters: PretrainParameters, student: Network, device: torch.device) -> None:
        self.parameters, self.device = parameters, device
        self.student = student.to(device)
        self.teacher = teacher_of(self.student)
        self.class_targets = TeacherTargets(parameters).to(device)
        self.patch_targets = TeacherTargets(parameters).to(device)
        self.optimiser = adamw(self.student, parameters)
        if parameters.compile:
            for network in (self.student, self.teacher):
                for block in network.encoder.blocks:
                    block.compile(dynamic=True)
        # Averages the gradients of all processes while they are computed.
        self.answers: nn.Module = DistributedDataParallel(self.student) if is_distributed() else self.student

    def learn(self, batches: Sequence[Batch], settings: StepSettings) -> StepOutcome:
        """Take one optimiser step; if a loss or the gradient is not finite anywhere, change nothing.

        Parameters
        ----------
        batches
            The micro-batches of this process, on the device.
        settings
            Rates, momentum and temperature of this step.
        """
        totals = torch.zeros(len(LOSSES), device=self.device)
        for number, batch in enumerate(batches):
            teaching = self._teach(batch, settings.teacher_temperature)
            is_last = number == len(batches) - 1
            with nullcontext() if is_last else self._without_averaging():
                answer: Answer = self.answers(batch)
                losses = self._losses(batch, answer, teaching)
                (losses[0] / len(batches)).backward()
            totals += losses.detach() / len(batches)
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), self.parameters.clip_norm)
        finite = not any_of(not (totals.isfinite().all() and norm.isfinite()), self.device)
        if finite:
            self._update(settings)
        self.class_targets.forget()
        self.patch_targets.forget()
        self.optimiser.zero_grad(set_to_none=True)
        loss, dino, ibot, koleo = (summed(totals) / summed(torch.ones_like(totals))).tolist()
        said = answer.class_logits.detach()
        return StepOutcome(loss, dino, ibot, koleo, float(norm), finite, teaching, said)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {name: getattr(self, name).state_dict() for name in self._PARTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        for name in self._PARTS:
            getattr(self, name).load_state_dict(state[name])

    _PARTS = ("student", "teacher", "class_targets", "patch_targets", "optimiser")

    @torch.no_grad()
    def _teach(self, batch: Batch, temperature: float) -> Teaching:
        said: Answer = self.teacher(batch, teaches=True)
        return Teaching(
            said.class_tokens,
            said.patch_tokens,
            said.class_logits,
            said.patch_logits,
            self.class_targets(said.class_logits, temperature),
            self.patch_targets(said.patch_logits, temperature),
        )

    def _losses(self, batch: Batch, answer: Answer, teaching: Teaching) -> Tensor:
        """The total and its three parts, in the order of `LOSSES`."""
        recipe, items = self.parameters, len(batch.crops)
        dino = dino_loss(
            answer.class_logits.unflatten(0, (-1, items)),
            teaching.class_targets.unflatten(0, (GLOBAL_VIEWS, items)),
            recipe.student_temperature,
        )
        ibot = ibot_loss(
            answer.patch_logits,
            teaching.patch_targets,
            batch.masks,
            recipe.student_temperature,
            batch.masked_views,
        )
        koleo = torch.stack([koleo_loss(view.float()) for view in answer.class_tokens.split(items)]).mean()
        total = recipe.dino_weight * dino + recipe.ibot_weight * ibot + recipe.koleo_weight * koleo
        return torch.stack([total, dino, ibot, koleo])

    def _without_averaging(self) -> Any:
        """Gradients of all but the last micro-batch stay at home: they are averaged once."""
        if isinstance(self.answers, DistributedDataParallel):
            return self.answers.no_sync()
        return nullcontext()

    def _update(self, settings: StepSettings) -> None:
        set_rates(self.optimiser, settings)
        self.optimiser.step()
        follow(self.teacher, self.student, settings.ema_momentum)
        self.class_targets.update()
        self.patch_targets.update()
