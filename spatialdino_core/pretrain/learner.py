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
from spatialdino_core.pretrain.compilation import compile_blocks
from spatialdino_core.pretrain.distributed import any_of, is_distributed, summed
from spatialdino_core.pretrain.losses import dino_loss, ibot_loss, koleo_loss
from spatialdino_core.pretrain.networks import Network, NetworkOutput, teacher_of, update_teacher
from spatialdino_core.pretrain.optimiser import adamw, set_rates
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.schedules import StepSettings
from spatialdino_core.pretrain.targets import TeacherTargets
from spatialdino_core.pretrain.teacher_output import TeacherOutput

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
    teacher_output, student_class_logits
        Output of teacher and student for this process's last micro-batch.
    """

    loss: float
    dino_loss: float
    ibot_loss: float
    koleo_loss: float
    gradient_norm: float
    finite: bool
    teacher_output: TeacherOutput
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
            compile_blocks(block for net in (self.student, self.teacher) for block in net.encoder.blocks)
        # Averages the gradients of all processes while they are computed.
        self.averaged_student: nn.Module = (
            DistributedDataParallel(self.student) if is_distributed() else self.student
        )

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
            teacher_output = self._teacher_output(batch, settings.teacher_temperature)
            is_last = number == len(batches) - 1
            with nullcontext() if is_last else self._without_averaging():
                student_output: NetworkOutput = self.averaged_student(batch)
                losses = self._losses(batch, student_output, teacher_output)
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
        logits = student_output.class_logits.detach()
        return StepOutcome(loss, dino, ibot, koleo, float(norm), finite, teacher_output, logits)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {name: getattr(self, name).state_dict() for name in self._PARTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        for name in self._PARTS:
            getattr(self, name).load_state_dict(state[name])

    _PARTS = ("student", "teacher", "class_targets", "patch_targets", "optimiser")

    @torch.no_grad()
    def _teacher_output(self, batch: Batch, temperature: float) -> TeacherOutput:
        output: NetworkOutput = self.teacher(batch, teaches=True)
        return TeacherOutput(
            output.class_tokens,
            output.patch_tokens,
            output.class_logits,
            output.patch_logits,
            self.class_targets(output.class_logits, temperature),
            self.patch_targets(output.patch_logits, temperature),
        )

    def _losses(self, batch: Batch, student_output: NetworkOutput, teacher_output: TeacherOutput) -> Tensor:
        """The total and its three parts, in the order of `LOSSES`."""
        recipe, items = self.parameters, len(batch.crops)
        dino = dino_loss(
            student_output.class_logits.unflatten(0, (-1, items)),
            teacher_output.class_targets.unflatten(0, (GLOBAL_VIEWS, items)),
            recipe.student_temperature,
        )
        ibot = ibot_loss(
            student_output.patch_logits,
            teacher_output.patch_targets,
            batch.masks,
            recipe.student_temperature,
            batch.masked_views,
        )
        koleo = torch.stack(
            [koleo_loss(view.float()) for view in student_output.class_tokens.split(items)]
        ).mean()
        total = recipe.dino_weight * dino + recipe.ibot_weight * ibot + recipe.koleo_weight * koleo
        return torch.stack([total, dino, ibot, koleo])

    def _without_averaging(self) -> Any:
        """Gradients of all but the last micro-batch stay at home: they are averaged once."""
        if isinstance(self.averaged_student, DistributedDataParallel):
            return self.averaged_student.no_sync()
        return nullcontext()

    def _update(self, settings: StepSettings) -> None:
        set_rates(self.optimiser, settings)
        self.optimiser.step()
        update_teacher(self.teacher, self.student, settings.ema_momentum)
        self.class_targets.update()
        self.patch_targets.update()
