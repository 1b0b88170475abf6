"""The table of a run: rows once each after a resume, as CSV and in TensorBoard."""

import importlib.util
import math

import pandas as pd
import pytest

from spatialdino_core.pretrain import metrics as metrics_module
from spatialdino_core.pretrain.metrics import MetricsTable


def test_rows_can_be_read_while_the_table_grows_and_no_step_appears_twice(tmp_path):
    path = tmp_path / "metrics.csv"
    table = MetricsTable(path)
    table.append({"step": 10, "loss": 1 / 3, "dead": math.nan, "alarms": ""})
    assert path.read_text() == "step,loss,dead,alarms\n10,0.333333,,\n"
    kept = table.text  # what a checkpoint remembers
    table.append({"step": 20, "loss": 0.2, "dead": 0.5, "alarms": "a;b"})
    resumed = MetricsTable(path, kept)
    assert pd.read_csv(path)["step"].tolist() == [10]
    resumed.append({"step": 20, "loss": 0.1, "dead": 0.5, "alarms": "a"})
    assert pd.read_csv(path)["loss"].tolist() == [0.333333, 0.1]
    assert resumed.text == path.read_text()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="TensorBoard is not installed")
def test_tensorboard_shows_the_numbers_of_the_run_that_counted(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    table = MetricsTable(tmp_path / "metrics.csv")
    table.append({"step": 10, "loss": 5.0, "alarms": "x"})
    kept = table.text
    for step, loss in ((20, 99.0), (30, 98.0)):
        table.append({"step": step, "loss": loss, "alarms": "x"})
    resumed = MetricsTable(tmp_path / "metrics.csv", kept)  # killed after step 30, resumed from step 10
    resumed.append({"step": 20, "loss": 4.0, "alarms": ""})
    board = EventAccumulator(str(tmp_path / "tensorboard" / "metrics")).Reload()
    assert board.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(10, 5.0), (20, 4.0)]


def test_without_tensorboard_there_is_only_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics_module, "HAS_TENSORBOARD", False)
    MetricsTable(tmp_path / "metrics.csv").append({"step": 1, "loss": 2.0})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
