"""The training loop: from crops to the weights of a pretrained encoder, resumable at every checkpoint.

Reads top to bottom; each ingredient has a file of its own. The result is a function of crops, settings,
seed and device: a run that was killed and resumed writes the same bytes as one that was not.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.weights import WeightsHeader, save_encoder
from spatialdino_core.errors import BadInputError
from spatialdino_core.parameters import digest
from spatialdino_core.pretrain.batches import Batch, batches
from spatialdino_core.pretrain.checkpoint import load_latest, save_checkpoint
from spatialdino_core.pretrain.learner import Learner, StepOutcome
from spatialdino_core.pretrain.metrics import MetricsTable
from spatialdino_core.pretrain.monitor import CollapseMonitor, figures
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.randomness import Purpose, torch_generator
from spatialdino_core.pretrain.schedules import StepSettings, settings_at
from spatialdino_core.pretrain.source import CropDescription, CropSource, check_source
from spatialdino_core.progress import progress

MAX_BAD_STEPS = 3
BOOKKEEPING = ("log_interval_steps", "checkpoint_interval_steps", "checkpoints_kept", "uniform_alarm_steps")


def pretrain(
    crops: CropSource,
    parameters: PretrainParameters,
    architecture: EncoderParameters,
    folder: Path,
    *,
    description: CropDescription,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Path:
    """Train an encoder on crops without labels.

    Parameters
    ----------
    crops
        float32 (C, Z, Y, X) crops in [0, 1] of isotropic voxels, each side at least
        ``parameters.global_crop_voxels``.
    parameters, architecture
        Recipe and encoder.
    folder
        Receives ``pretrained.safetensors`` (the teacher's encoder), ``metrics.csv`` and
        ``checkpoints/``, from which an interrupted run of the same settings resumes.
    description
        What the weights' header says about the crops.
    device
        Where to compute.
    seed
        What all random choices depend on, besides the step.

    Returns
    -------
    pathlib.Path
        The weights file.

    Raises
    ------
    BadInputError
        If crops or settings do not fit each other, or the loss is not finite three times in a row.
    """
    folder = Path(folder)
    _check_sizes(parameters, architecture)
    check_source(crops, architecture.channels, parameters.global_crop_voxels)
    run = _Run(crops, parameters, architecture, folder, description, torch.device(device), seed)
    with _deterministic(run.device):
        run.resume()
        run.train()
    return run.finish()


class _Run:
    """One training run: its learner, its books, and the step it is at."""

    def __init__(
        self,
        crops: CropSource,
        parameters: PretrainParameters,
        architecture: EncoderParameters,
        folder: Path,
        description: CropDescription,
        device: torch.device,
        seed: int,
    ) -> None:
        self.crops, self.parameters, self.architecture = crops, parameters, architecture
        self.folder, self.description, self.device, self.seed = folder, description, device, seed
        self.learner = Learner(parameters, architecture, seed, device)
        self.monitor = CollapseMonitor(parameters)
        self.step = 0
        self.bad_steps = 0
        self.raised: set[str] = set()
        # Runs with other settings keep their checkpoints in folders of their own.
        self.checkpoints = folder / "checkpoints" / self._fingerprint()

    def resume(self) -> None:
        """Go back to the newest checkpoint, if there is one, and set the table back with it."""
        state = load_latest(self.checkpoints)
        if state is not None:
            self.learner.load_state_dict(state["learner"])
            self.step, self.bad_steps = state["step"], state["bad_steps"]
            self.monitor.uniform_steps = state["uniform_steps"]
        self.table = MetricsTable(self.folder / "metrics.csv", state["metrics"] if state is not None else "")

    def train(self) -> None:
        """Take all remaining steps."""
        source = batches(
            self.crops,
            self.parameters,
            self.architecture.patch_voxels,
            self.architecture.channels,
            seed=self.seed,
            start=self.step,
        )
        total = self.parameters.steps
        since = time.monotonic()
        for batch in progress(source, "pretrain", "step", total=total, done=self.step):
            settings = settings_at(self.parameters, self.step)
            generator = torch_generator(self.seed, Purpose.STOCHASTIC_DEPTH, self.step)
            outcome = self.learner.learn(batch.to(self.device), settings, generator)
            self._count_bad_steps(outcome, batch)
            self.monitor.observe(outcome.dino_loss)
            self.step += 1
            if self._is_due(self.parameters.log_interval_steps):
                seconds, since = time.monotonic() - since, time.monotonic()
                self._log(outcome, settings, seconds)
            if self._is_due(self.parameters.checkpoint_interval_steps):
                self._save_checkpoint()

    def finish(self) -> Path:
        """Write the teacher's encoder."""
        path = self.folder / "pretrained.safetensors"
        trained = {
            "recipe": asdict(self.parameters),
            "seed": self.seed,
            "crops": len(self.crops),
            "crops_hash": self.description.content_hash,
        }
        header = WeightsHeader(
            architecture=self.architecture,
            voxel_um=self.description.voxel_um,
            normalisation=self.description.normalisation,
            field_of_view_voxels=(self.parameters.global_crop_voxels,) * 3,
            provenance={**self.description.provenance, "pretrain": trained},
        )
        save_encoder(path, self.learner.teacher.encoder, header)
        return path

    def _is_due(self, interval: int) -> bool:
        return self.step % interval == 0 or self.step == self.parameters.steps

    def _count_bad_steps(self, outcome: StepOutcome, batch: Batch) -> None:
        self.bad_steps = 0 if outcome.finite else self.bad_steps + 1
        if self.bad_steps >= MAX_BAD_STEPS:
            raise BadInputError(
                f"pretraining, step {self.step}",
                found=f"a loss or gradient that is not finite in {MAX_BAD_STEPS} steps in a row",
                expected="finite losses",
                remedy=f"Lower pretrain.learning_rate, or look at the crops of this step: {batch.crops}.",
            )

    def _log(self, outcome: StepOutcome, settings: StepSettings, seconds: float) -> None:
        measured = figures(outcome.teaching)
        alarms = self.monitor.alarms(self.step, measured, outcome.teaching.class_tokens)
        self._announce(set(alarms))
        interval = self.parameters.log_interval_steps
        steps = self.step % interval or interval
        row: dict[str, Any] = {"step": self.step}
        row |= {name: getattr(outcome, name) for name in _LOSSES} | asdict(settings) | measured
        row |= {"bad_steps": self.bad_steps, "crops_per_s": self.parameters.batch_size * steps / seconds}
        self.table.append(row | {"alarms": ";".join(alarms)})

    def _announce(self, alarms: set[str]) -> None:
        for name in sorted(alarms - self.raised):
            print(f"pretrain: alarm at step {self.step}: {name}", file=sys.stderr, flush=True)
        self.raised = alarms

    def _save_checkpoint(self) -> None:
        state = {
            "learner": self.learner.state_dict(),
            "step": self.step,
            "bad_steps": self.bad_steps,
            "uniform_steps": self.monitor.uniform_steps,
            "metrics": self.table.text,
        }
        save_checkpoint(self.checkpoints, self.step, state, self.parameters.checkpoints_kept)

    def _fingerprint(self) -> str:
        recipe = {name: value for name, value in asdict(self.parameters).items() if name not in BOOKKEEPING}
        described = asdict(self.description)
        del described["provenance"]
        return digest(recipe, asdict(self.architecture), described, len(self.crops), self.seed)


_LOSSES = ("loss", "dino_loss", "ibot_loss", "koleo_loss", "gradient_norm")


def _check_sizes(parameters: PretrainParameters, architecture: EncoderParameters) -> None:
    for name in ("global_crop_voxels", "local_crop_voxels"):
        side = getattr(parameters, name)
        if side % architecture.patch_voxels:
            raise BadInputError(
                f"pretrain.{name}",
                found=f"{side} voxels",
                expected=f"a multiple of encoder.patch_voxels = {architecture.patch_voxels}",
                remedy=f"Change pretrain.{name} or encoder.patch_voxels.",
            )


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Ask CUDA for reproducible kernels; on a CPU those in use are reproducible anyway."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
