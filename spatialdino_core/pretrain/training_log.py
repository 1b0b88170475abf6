"""The log of a training run: tables that grow as it goes, plots, and alarms. Nothing here trains.

``metrics.csv`` has a row every few steps on what was trained, ``held_out.csv`` one on every evaluation of
views that never change; ``pretrain.png`` and ``held_out.png`` show them.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from spatialdino_core.crops.source import CropSource
from spatialdino_core.errors import BadInputError
from spatialdino_core.pretrain.alarms import MEANINGS
from spatialdino_core.pretrain.examine import Examination, baseline_figures, examine
from spatialdino_core.pretrain.figures import batch_figures
from spatialdino_core.pretrain.foreground import foreground_labels
from spatialdino_core.pretrain.learner import LOSSES, StepOutcome
from spatialdino_core.pretrain.metrics import MetricsTable
from spatialdino_core.pretrain.monitor import CollapseMonitor
from spatialdino_core.pretrain.networks import Network
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.pictures import held_out_figure, save_figure, training_figure
from spatialdino_core.pretrain.schedules import StepSettings
from spatialdino_core.statistics import evenly_spread

MONITORED_VIEWS = 64


class TrainingLog:
    """Written by one process of a run.

    Parameters
    ----------
    folder
        Where tables and pictures go.
    parameters
        How often, and what an alarm does.
    views
        (n, C, Z, Y, X), what is looked at; see `monitored_views`.
    patch_voxels
        Of the encoder.
    state
        `state_dict` of the log in the checkpoint that the run resumes from, or None.
    """

    def __init__(
        self,
        folder: Path,
        parameters: PretrainParameters,
        views: Tensor,
        patch_voxels: int,
        state: dict[str, Any] | None,
    ) -> None:
        self.folder, self.parameters, self.views = folder, parameters, views
        self.labels = foreground_labels(views, patch_voxels)
        self.baseline = baseline_figures(views, self.labels, patch_voxels)
        self.monitor = CollapseMonitor(parameters)
        texts = state["tables"] if state is not None else ("", "")
        if state is not None:
            self.monitor.load_state_dict(state["monitor"])
        self.metrics = MetricsTable(folder / "metrics.csv", texts[0])
        self.held_out = MetricsTable(folder / "held_out.csv", texts[1])
        self.found: Examination | None = None
        self.announced: set[str] = set()

    def observe(self, step: int, outcome: StepOutcome) -> None:
        """Take note of a step."""
        self.monitor.observe(step, outcome.dino_loss, outcome.teacher_output)

    def evaluate(self, step: int, outcome: StepOutcome, teacher: Network) -> None:
        """Evaluate the teacher on the held-out views after ``step`` steps, and judge."""
        found = self.found = examine(teacher, self.views, self.labels)
        judged = self._figures(outcome) | found.figures
        alarms = self.monitor.alarms(step, judged)
        self.held_out.append({"step": step} | found.figures | self.baseline | {"alarms": ";".join(alarms)})

    def append(
        self, step: int, outcome: StepOutcome, settings: StepSettings, others: dict[str, float | int]
    ) -> None:
        """Add a row about the step that ended."""
        row: dict[str, Any] = {"step": step}
        row |= {name: getattr(outcome, name) for name in (*LOSSES, "gradient_norm")}
        row |= asdict(settings) | self._figures(outcome) | self.monitor.figures() | others
        self.metrics.append(row | {"alarms": ";".join(self.monitor.raised)})

    def publish(self, step: int) -> None:
        """Plot the tables and the last evaluation, and announce alarms that are new.

        Raises
        ------
        BadInputError
            If one of them is a collapse and ``on_collapse`` is ``stop``.
        """
        self._draw()
        raised = set(self.monitor.raised)
        new, self.announced = raised - self.announced, raised
        for alarm in sorted(new):
            self._announce(step, alarm)

    def state_dict(self) -> dict[str, Any]:
        """What the log of a resumed run needs."""
        return {"monitor": self.monitor.state_dict(), "tables": (self.metrics.text, self.held_out.text)}

    def _figures(self, outcome: StepOutcome) -> dict[str, float]:
        temperature = self.parameters.student_temperature
        return batch_figures(outcome.teacher_output, outcome.student_class_logits, temperature)

    def _draw(self) -> None:
        tables = [_read(table) for table in (self.metrics, self.held_out)]
        if len(tables[0]):
            save_figure(training_figure(*tables), self.folder / "pretrain.png")
        if self.found is not None:
            save_figure(held_out_figure(self.found), self.folder / "held_out.png")

    def _announce(self, step: int, alarm: str) -> None:
        meaning = MEANINGS[alarm.split(":")[0]]
        if self.parameters.on_collapse == "stop" and "-collapse" in alarm:
            raise BadInputError(
                f"pretraining, step {step}",
                found=f"{alarm}, with pretrain.on_collapse: stop",
                expected="a network that does not collapse",
                remedy=f"{meaning} Curves: {self.folder / 'pretrain.png'}.",
            )
        print(f"pretrain: alarm at step {step}: {alarm}. {meaning}", file=sys.stderr, flush=True)


def monitored_views(crops: CropSource, channels: int, side: int) -> Tensor:
    """Central cubes of some crops, evenly spread, (n, C, side, side, side); the same ones each time."""
    cubes = []
    for index in evenly_spread(len(crops), MONITORED_VIEWS).tolist():
        crop = crops[index]
        starts = [(length - side) // 2 for length in crop.shape[1:]]
        cube = crop[(slice(0, channels), *(slice(start, start + side) for start in starts))]
        cubes.append(torch.from_numpy(np.ascontiguousarray(cube, np.float32)))
    return torch.stack(cubes)


def _read(table: MetricsTable) -> pd.DataFrame:
    return pd.read_csv(table.path, dtype={"alarms": str}) if table.text else pd.DataFrame(columns=["step"])
