"""The training loop: from crops to the weights of a pretrained encoder, resumable at every checkpoint.

Reads top to bottom; each ingredient has a file of its own. The result is a function of crops, settings,
seed and device: a run that was killed and resumed writes the same bytes as one that was not.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from spatialdino_core.crops.source import CropDescription, CropSource, check_source, crop_names
from spatialdino_core.encoder.header import WeightsHeader
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.precision import arithmetic
from spatialdino_core.encoder.weights import load_encoder, save_encoder, weights_hash
from spatialdino_core.errors import BadInputError
from spatialdino_core.files import write_json
from spatialdino_core.parameters import digest
from spatialdino_core.pretrain.batches import step_batches
from spatialdino_core.pretrain.checkpoint import load_latest, save_checkpoint
from spatialdino_core.pretrain.compilation import own_cache
from spatialdino_core.pretrain.distributed import World, any_of, first_of, gathered_objects, joined
from spatialdino_core.pretrain.interruption import Interruption
from spatialdino_core.pretrain.learner import LOSSES, Learner, StepOutcome
from spatialdino_core.pretrain.loader import StepBatches, batches_ahead
from spatialdino_core.pretrain.networks import Network, new_network
from spatialdino_core.pretrain.parameters import PretrainParameters, recipe_of
from spatialdino_core.pretrain.schedules import StepSettings, settings_at
from spatialdino_core.pretrain.throughput import Stopwatch, matrix_rate
from spatialdino_core.pretrain.training_log import TrainingLog, monitored_views
from spatialdino_core.progress import progress

MAX_BAD_STEPS = 3
LOG_KEY = "books"  # in checkpoints, which runs of earlier releases must be able to resume from


def pretrain(
    crops: CropSource,
    parameters: PretrainParameters,
    architecture: EncoderParameters,
    folder: Path,
    *,
    description: CropDescription,
    held_out: CropSource | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Path:
    """Train an encoder on crops without labels.

    Started by ``torchrun``, all its processes train one model together.

    Parameters
    ----------
    crops
        Crops (C, Z, Y, X) in [0, 1] of isotropic voxels, each side at least
        ``parameters.global_crop_voxels``.
    parameters
        The recipe.
    architecture
        Of the encoder; with ``parameters.start_from``, that of those weights.
    folder
        Receives ``pretrained.safetensors`` (the teacher's encoder), ``metrics.csv`` and
        ``checkpoints/``, from which an interrupted run of the same settings resumes.
    description
        What the weights' header says about the crops.
    held_out
        Crops that are never learned from, which the collapse monitor looks at; without any, it looks at
        a few of the training crops.
    device
        Where to compute; of several processes each has a GPU of its own.
    seed
        What all random choices depend on, besides the step.

    Returns
    -------
    pathlib.Path
        The weights file.

    Raises
    ------
    BadInputError
        If crops or settings do not fit each other, a loss is not finite three times in a row, or the
        network collapses and ``parameters.on_collapse`` is ``stop``.
    SystemExit
        If SIGTERM or SIGUSR1 asked to stop: a checkpoint is written, the next run resumes from it.
    """
    with joined(torch.device(device)) as world, _reproducible(_own(device, world)) as own:
        _check_sizes(parameters, architecture, world)
        check_source(crops, architecture.channels, parameters.global_crop_voxels)
        run = _Run(crops, held_out, parameters, architecture, Path(folder), description, own, seed, world)
        run.resume()
        with own_cache() if parameters.compile else nullcontext(), Interruption() as interruption:
            run.train(interruption)
        return run.finish()


class _Run:
    """One training run: its learner, its log, and the step it is at."""

    def __init__(
        self,
        crops: CropSource,
        held_out: CropSource | None,
        parameters: PretrainParameters,
        architecture: EncoderParameters,
        folder: Path,
        description: CropDescription,
        device: torch.device,
        seed: int,
        world: World,
    ) -> None:
        self.crops, self.held_out = crops, crops if held_out is None else held_out
        self.parameters, self.architecture = parameters, architecture
        self.folder, self.description, self.device, self.seed = folder, description, device, seed
        self.world = world
        self.header = self._header()
        student = first_network(parameters, architecture, seed, device)
        self.learner = Learner(parameters, student, device)
        self.stopwatch = Stopwatch(parameters, architecture)
        self.step = 0
        self.bad_steps = 0
        # Runs with other settings keep their checkpoints in folders of their own.
        self.checkpoints = folder / "checkpoints" / self._fingerprint()

    def resume(self) -> None:
        """Go back to the newest checkpoint, if there is one, and set the table back with it.

        The first process alone looks for it and tells the others what is in it: on a network file system
        another node may not see the newest file yet, or still see one that is gone.
        """
        state = load_latest(self.checkpoints) if self.world.leads else None
        kept = state.pop(LOG_KEY) if state is not None else None
        state = first_of(state)
        if state is not None:
            self.learner.load_state_dict(state["learner"])
            self.step, self.bad_steps = state["step"], state["bad_steps"]
        if self.world.leads:
            recipe, encoder = self.parameters, self.architecture
            views = monitored_views(self.held_out, encoder.channels, recipe.global_crop_voxels)
            self.log = TrainingLog(self.folder, recipe, views, encoder.patch_voxels, kept)
            self.log.publish(self.step)

    def train(self, interruption: Interruption) -> None:
        """Take all remaining steps."""
        recipe = self.parameters
        build = partial(step_batches, self.crops, recipe, self.architecture, seed=self.seed, world=self.world)
        steps = range(self.step, recipe.steps)
        ahead = batches_ahead(build, steps, workers=recipe.loader_workers, device=self.device)
        watched = self.stopwatch.waiting(ahead)
        if self.world.leads:
            watched = progress(watched, "pretrain", "step", total=recipe.steps, done=self.step)
            self.stopwatch.rate = matrix_rate(self.device, arithmetic(recipe.precision, self.device))
        for batches in watched:
            settings = settings_at(recipe, self.step)
            outcome = self.learner.learn(batches, settings)
            self._count_bad_steps(outcome, batches)
            self.step += 1
            self._record(outcome, settings)
            if self._is_due(recipe.checkpoint_interval_steps):
                self._save_checkpoint()
            if any_of(bool(interruption.signal_number), self.device) and self.step < recipe.steps:
                self._stop(interruption.signal_number)

    def finish(self) -> Path:
        """Write the teacher's encoder."""
        path = self.folder / "pretrained.safetensors"
        if self.world.leads:
            save_encoder(path, self.learner.teacher.encoder, self.header)
        return path

    def _header(self) -> WeightsHeader:
        """Made at the start: what it refuses is not trained."""
        trained = {
            "recipe": recipe_of(self.parameters),
            "seed": self.seed,
            "crops": len(self.crops),
            "crops_hash": self.description.content_hash,
        }
        return WeightsHeader(
            architecture=self.architecture,
            voxel_um=self.description.voxel_um,
            normalisation=self.description.normalisation,
            field_of_view_voxels=(self.parameters.global_crop_voxels,) * 3,
            provenance={**self.description.provenance, "pretrain": trained},
            channels=self.description.channels,
        )

    def _is_due(self, interval: int) -> bool:
        return self.step % interval == 0 or self.step == self.parameters.steps

    def _count_bad_steps(self, outcome: StepOutcome, batches: StepBatches) -> None:
        self.bad_steps = 0 if outcome.finite else self.bad_steps + 1
        if self.bad_steps < MAX_BAD_STEPS:
            return
        names = [crop_names(self.crops, batch.crops) for batch in batches]
        everyone = gathered_objects(names, self.world)
        dump = self.folder / "bad_batch.json"
        if self.world.leads:
            losses = {name: str(getattr(outcome, name)) for name in (*LOSSES, "gradient_norm")}
            write_json(dump, {"step": self.step, "losses": losses, "crops_of_processes": everyone})
        raise BadInputError(
            f"pretraining, step {self.step}",
            found=f"a loss or gradient that is not finite in {MAX_BAD_STEPS} steps in a row",
            expected="finite losses",
            remedy=f"Lower pretrain.learning_rate, or look at the crops of this step, listed in {dump}.",
        )

    def _record(self, outcome: StepOutcome, settings: StepSettings) -> None:
        recipe = self.parameters
        if self.world.leads:
            self.log.observe(self.step, outcome)
            if self._is_due(recipe.monitor_interval_steps):
                self.log.evaluate(self.step, outcome, self.learner.teacher)
        if self._is_due(recipe.log_interval_steps):
            speed = self.stopwatch.read(self.device, self.world.ranks)
            if self.world.leads:
                self.log.append(self.step, outcome, settings, {"bad_steps": self.bad_steps, **speed})
        if self.world.leads and self._is_due(recipe.monitor_interval_steps):
            self.log.publish(self.step)

    def _save_checkpoint(self) -> None:
        if not self.world.leads:
            return
        state = {
            "learner": self.learner.state_dict(),
            "step": self.step,
            "bad_steps": self.bad_steps,
            LOG_KEY: self.log.state_dict(),
        }
        recipe = self.parameters
        save_checkpoint(
            self.checkpoints,
            self.step,
            state,
            keep=recipe.checkpoints_kept,
            milestone=recipe.checkpoint_milestone_steps,
        )

    def _stop(self, number: int) -> None:
        self._save_checkpoint()
        if self.world.leads:
            name = signal.Signals(number).name if number else "a signal to another process"
            print(
                f"pretrain: stopped at step {self.step} by {name}; run again to go on from there.",
                file=sys.stderr,
                flush=True,
            )
        raise SystemExit(128 + (number or signal.SIGTERM))

    def _fingerprint(self) -> str:
        described = asdict(self.description)
        del described["provenance"], described["channels"]  # names; what they show is in the hash
        start = self.parameters.start_from
        origin = weights_hash(Path(start)) if start else ""
        recipe = recipe_of(self.parameters) | {"start_from": origin}
        return digest(recipe, asdict(self.architecture), described, len(self.crops), self.seed)


def first_network(
    parameters: PretrainParameters, architecture: EncoderParameters, seed: int, device: torch.device
) -> Network:
    """The student before its first step: fresh, or trained weights below new heads."""
    half = arithmetic(parameters.precision, device) == torch.bfloat16
    if not parameters.start_from:
        return new_network(parameters, architecture, seed, half=half)
    encoder, _, _ = load_encoder(Path(parameters.start_from))
    encoder.architecture = architecture
    return Network(parameters, encoder, seed, half=half)


def _own(device: str | torch.device, world: World) -> torch.device:
    """The device of this process."""
    device = torch.device(device)
    return torch.device("cuda", world.local_rank) if device.type == "cuda" else device


def _check_sizes(parameters: PretrainParameters, architecture: EncoderParameters, world: World) -> None:
    for name in ("global_crop_voxels", "local_crop_voxels"):
        side = getattr(parameters, name)
        if side % architecture.patch_voxels:
            raise BadInputError(
                f"pretrain.{name}",
                found=f"{side} voxels",
                expected=f"a multiple of encoder.patch_voxels = {architecture.patch_voxels}",
                remedy=f"Change pretrain.{name} or encoder.patch_voxels.",
            )
    parts = world.ranks * parameters.accumulation
    if parameters.batch_size % parts or parameters.batch_size < 2 * parameters.accumulation:
        raise BadInputError(
            "pretrain.batch_size",
            found=f"{parameters.batch_size} crops for {world.ranks} processes of {parameters.accumulation} "
            "micro-batches",
            expected=f"a multiple of {parts}, with two crops or more in each micro-batch of all processes",
            remedy="Change pretrain.batch_size, pretrain.accumulation or the number of processes.",
        )


@contextmanager
def _reproducible(device: torch.device) -> Iterator[torch.device]:
    """Ask CUDA for reproducible kernels; on a CPU those in use are reproducible anyway."""
    if device.type != "cuda":
        yield device
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()
    torch.cuda.set_device(device)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_float32_matmul_precision("high")  # heads: float32 in memory, TF32 in the tensor cores
    try:
        yield device
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.set_float32_matmul_precision(before[1])
